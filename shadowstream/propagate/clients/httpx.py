"""httpx, sync and async: one hook among the client's own, which httpx calls for each request, redirects included.

Traps:

* A redirect carries the first request's headers along; the hook sees them anew, and takes the mark off where it must
  not go (``test_a_redirect_to_a_host_that_is_not_listed_is_stopped``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from httpx import AsyncClient, Client, Request

from shadowstream.propagate.carrier import Mapped
from shadowstream.propagate.clients.wire import WIRE, port_of

if TYPE_CHECKING:
    from shadowstream.propagate.propagator import Propagator

__all__ = ["carrying"]

T = TypeVar("T", bound=Client | AsyncClient)


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
    headers = Mapped(request.headers, request.headers.get_list)
    propagator.departing(headers, url.host, port_of(url.scheme, url.port), WIRE)
