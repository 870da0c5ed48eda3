"""ASGI middleware: a request's lane is that of its mark, from its first byte to its last.

Put it outermost, so that everything sees the lane::

    app = LaneMiddleware(app, propagator)                             # any ASGI app
    app.add_middleware(LaneMiddleware, propagator=propagator)         # Starlette, FastAPI: say it last

Background tasks of Starlette and FastAPI run inside the request, and so in its lane. Traps:

* A server may begin a request's task in somebody else's context: an unmarked request sets the normal lane by itself
  (``test_an_unmarked_request_is_normal_whatever_the_server_runs_in``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shadowstream.lane import entered, mark_here
from shadowstream.propagate.carrier import Pairs
from shadowstream.propagate.servers.answers import refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from shadowstream.propagate.propagator import Propagator

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["LaneMiddleware"]

CLOSE_POLICY = 1008
"""The websocket close code for what policy forbids; before the handshake a server makes it an HTTP 403."""


class LaneMiddleware:
    """Runs each request of an ASGI app in its lane."""

    def __init__(self, app: App, propagator: Propagator) -> None:
        self._app, self._propagator = app, propagator
        self._names = frozenset(name.encode() for name in propagator.names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if mark_here() is None and self._names.isdisjoint([name for name, _ in scope["headers"]]):
            await self._app(scope, receive, send)
            return
        headers = Pairs(scope["headers"], str.encode)
        arrival = self._propagator.arrived(headers, kind)
        if arrival.refused:
            await _refuse(kind, arrival.refused, send)
            return
        with entered(arrival.mark):
            await self._app({**scope, "headers": headers.pairs}, receive, send)


async def _refuse(kind: str, reason: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": CLOSE_POLICY, "reason": reason})
        return
    status, body = refusal(reason)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
