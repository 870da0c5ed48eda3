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
        self._name = "HTTP_" + propagator.header.upper().replace("-", "_")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        value = environ.get(self._name)
        if value is None and mark_here() is None:
            return self._app(environ, start_response)
        arrival = self._propagator.arrived([] if value is None else [value.encode("latin-1")], WIRE)
        if arrival.refused:
            return _refuse(arrival.refused, start_response)
        if arrival.stripped:
            del environ[self._name]
        return Held(arrival.mark, partial(self._app, environ, start_response))


def _refuse(reason: str, start_response: StartResponse) -> list[bytes]:
    status, body = refusal(reason)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{int(status)} {status.phrase}", headers)
    return [body]
