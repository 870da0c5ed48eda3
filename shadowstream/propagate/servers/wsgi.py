"""WSGI middleware: a request's lane is that of its mark, from its first byte to its last.

::

    app = LaneMiddleware(app, propagator)                             # any WSGI app
    app.wsgi_app = LaneMiddleware(app.wsgi_app, propagator)           # Flask

Traps:

* A body may be produced long after the app has returned: each part is asked for in the request's context
  (``test_a_streamed_body_keeps_the_lane_to_its_last_byte``).
* WSGI spells ``X_Shadow`` and ``X-Shadow`` alike and joins what was sent twice with a comma; both are read
  (``test_a_mark_that_cannot_be_trusted_is_refused``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shadowstream.lane import mark_here
from shadowstream.propagate.carrier import ascii_bytes
from shadowstream.propagate.held import Held
from shadowstream.propagate.servers.answers import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shadowstream.propagate.propagator import Propagator

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]
    App = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["LaneMiddleware"]

WIRE = "http"


class LaneMiddleware:
    """Runs each request of a WSGI app in its lane."""

    def __init__(self, app: App, propagator: Propagator) -> None:
        self._app, self._propagator = app, propagator
        self._names = frozenset(map(_variable, propagator.names))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if mark_here() is None and self._names.isdisjoint(environ):
            return self._app(environ, start_response)
        arrival = self._propagator.arrived(_Headers(environ), WIRE)
        if arrival.refused:
            return _refuse(arrival.refused, start_response)
        return Held(arrival.mark, partial(self._app, environ, start_response))


class _Headers:
    """A request's headers among its environment, a variable for each."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def values(self, name: str) -> list[bytes]:
        value = self._environ.get(_variable(name))
        return [] if value is None else [ascii_bytes(value)]

    def put(self, name: str, value: str) -> None:
        self._environ[_variable(name)] = value

    def drop(self, name: str) -> None:
        self._environ.pop(_variable(name), None)


def _variable(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")


def _refuse(reason: str, start_response: StartResponse) -> list[bytes]:
    status, body = refusal(reason)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{int(status)} {status.phrase}", headers)
    return [body]
