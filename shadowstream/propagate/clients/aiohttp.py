"""aiohttp's client: one client middleware, which aiohttp calls for each request, redirects and websockets included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.propagate.carrier import Mapped
from shadowstream.propagate.clients.wire import WIRE

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from shadowstream.propagate.propagator import Propagator

__all__ = ["lane_middleware"]


def lane_middleware(propagator: Propagator) -> ClientMiddlewareType:
    """Return the middleware that lets a session carry the lane of the work at hand; give it last, so innermost."""

    async def stamped(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        headers = Mapped(request.headers, lambda name: request.headers.getall(name, []))
        propagator.departing(headers, request.url.host or "", request.url.port, WIRE)
        return await handler(request)

    return stamped
