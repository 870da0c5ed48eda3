"""aiohttp's client: one client middleware, which aiohttp calls for each request, redirects and websockets included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shadowstream.propagate.carrier import ascii_bytes

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from shadowstream.propagate.propagator import Propagator

__all__ = ["lane_middleware"]

WIRE: Final = "http"


def lane_middleware(propagator: Propagator) -> ClientMiddlewareType:
    """Return the middleware that lets a session carry the lane of the work at hand; give it last, so innermost."""

    async def stamped(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        propagator.departing(_Headers(request), request.url.host or "", request.url.port, WIRE)
        return await handler(request)

    return stamped


class _Headers:
    """A request's headers, some of them more than once."""

    __slots__ = ("_headers",)

    def __init__(self, request: ClientRequest) -> None:
        self._headers = request.headers

    def values(self, name: str) -> list[bytes]:
        return [ascii_bytes(value) for value in self._headers.getall(name, [])]

    def put(self, name: str, value: str) -> None:
        self._headers[name] = value

    def drop(self, name: str) -> None:
        self._headers.popall(name, None)
