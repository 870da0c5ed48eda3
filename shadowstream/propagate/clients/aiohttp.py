"""aiohttp's client: one client middleware, which aiohttp calls for each request, redirects and websockets included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from shadowstream.propagate.propagator import Propagator

__all__ = ["lane_middleware"]

WIRE: Final = "http"


def lane_middleware(propagator: Propagator) -> ClientMiddlewareType:
    """Return the middleware that lets a session carry the lane of the work at hand; give it last, so innermost."""
    name = propagator.header

    async def stamped(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        present = [value.encode() for value in request.headers.getall(name, [])]
        value = propagator.departing(request.url.host or "", request.url.port, WIRE, present)
        request.headers.popall(name, None)
        if value is not None:
            request.headers[name] = value
        return await handler(request)

    return stamped
