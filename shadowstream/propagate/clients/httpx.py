"""httpx, sync and async: one hook among the client's own, which httpx calls for each request, redirects included.

Traps:

* A redirect carries the first request's headers along; the hook sees them anew, and takes the mark off where it must
  not go (``test_a_redirect_to_a_host_that_is_not_listed_is_stopped``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from httpx import AsyncClient, Client, Request

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
    name, url = propagator.header, request.url
    present = [value.encode() for value in request.headers.get_list(name)]
    port = url.port or dict(PORTS).get(url.scheme)
    value = propagator.departing(url.host, port, WIRE, present)
    if present:
        del request.headers[name]
    if value is not None:
        request.headers[name] = value
