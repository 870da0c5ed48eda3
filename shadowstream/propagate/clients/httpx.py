"""httpx, sync and async: one hook among the client's own, which httpx calls for each request, redirects included.

Traps:

* A redirect carries the first request's headers along; the hook sees them anew, and takes the mark off where it must
  not go (``test_a_redirect_to_a_host_that_is_not_listed_is_stopped``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from httpx import AsyncClient, Client, Request

from shadowstream.propagate.carrier import ascii_bytes

if TYPE_CHECKING:
    from shadowstream.propagate.propagator import Propagator

__all__ = ["carrying"]

T = TypeVar("T", bound=Client | AsyncClient)

WIRE: Final = "http"
PORTS: Final = (("http", 80), ("https", 443))


def carrying(client: T, propagator: Propagator) -> T:
    """Let a client carry the lane of the work at hand; returns the same client."""
    hook = _stamp_later if isinstance(client, AsyncClient) else _stamp
    hooks = client.event_hooks
    # Last, so that what other hooks do to the request is seen.
    client.event_hooks = {**hooks, "request": [*hooks["request"], partial(hook, propagator)]}
    return client


async def _stamp_later(propagator: Propagator, request: Request) -> None:
    _stamp(propagator, request)


def _stamp(propagator: Propagator, request: Request) -> None:
    url = request.url
    propagator.departing(_Headers(request), url.host, url.port or dict(PORTS).get(url.scheme), WIRE)


class _Headers:
    """A request's headers, some of them more than once."""

    __slots__ = ("_headers",)

    def __init__(self, request: Request) -> None:
        self._headers = request.headers

    def values(self, name: str) -> list[bytes]:
        return [ascii_bytes(value) for value in self._headers.get_list(name)]

    def put(self, name: str, value: str) -> None:
        self._headers[name] = value

    def drop(self, name: str) -> None:
        self._headers.pop(name, None)
