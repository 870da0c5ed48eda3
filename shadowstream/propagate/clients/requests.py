"""requests: an adapter around each of a session's own, which requests asks for each request, redirects included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.adapters import BaseAdapter
from urllib3.util import parse_url

from shadowstream.propagate.carrier import Mapped
from shadowstream.propagate.clients.wire import WIRE, port_of

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

    from shadowstream.propagate.propagator import Propagator

__all__ = ["LaneAdapter", "carrying"]


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
        url = parse_url(request.url or "")
        port = port_of(url.scheme, url.port)
        self._propagator.departing(Mapped(request.headers), url.host or "", port, WIRE)
        return self._inner.send(request, *arguments, **more)

    def close(self) -> None:
        """Close the inner adapter."""
        self._inner.close()
