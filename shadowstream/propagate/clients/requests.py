"""requests: an adapter around each of a session's own, which requests asks for each request, redirects included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from requests.adapters import BaseAdapter
from urllib3.util import parse_url

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

    from shadowstream.propagate.propagator import Propagator

__all__ = ["LaneAdapter", "carrying"]

WIRE: Final = "http"
PORTS: Final = (("http", 80), ("https", 443))


def carrying(session: Session, propagator: Propagator) -> Session:
    """Let a session carry the lane of the work at hand; returns the same session."""
    for prefix, adapter in list(session.adapters.items()):
        session.mount(prefix, LaneAdapter(adapter, propagator))
    return session


class LaneAdapter(BaseAdapter):
    """Stamps what another adapter sends; mount it over those that are mounted after `carrying`."""

    def __init__(self, inner: BaseAdapter, propagator: Propagator) -> None:
        super().__init__()
        self._inner, self._propagator = inner, propagator

    def send(self, request: PreparedRequest, *arguments: Any, **more: Any) -> Response:  # noqa: ANN401 - the inner adapter's
        """Send one request with the mark of the work at hand."""
        name, url = self._propagator.header, parse_url(request.url or "")
        present = [_raw(request.headers[name])] if name in request.headers else []
        port = url.port or dict(PORTS).get(url.scheme or "")
        value = self._propagator.departing(url.host or "", port, WIRE, present)
        request.headers.pop(name, None)
        if value is not None:
            request.headers[name] = value
        return self._inner.send(request, *arguments, **more)

    def close(self) -> None:
        """Close the inner adapter."""
        self._inner.close()


def _raw(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
