"""urllib3: a pool manager that asks for each request, redirects included.

It is urllib3's own class with one public method overridden: a redirect comes back to that method, and a wrapper around
the manager would not see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from urllib3 import HTTPHeaderDict, PoolManager
from urllib3.util import parse_url

from shadowstream.propagate.carrier import Mapped
from shadowstream.propagate.clients.wire import WIRE, port_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from shadowstream.propagate.propagator import Propagator

__all__ = ["LanePools"]


class LanePools(PoolManager):
    """Carries the lane of the work at hand; everything else is urllib3's."""

    def __init__(self, propagator: Propagator, **more: Any) -> None:  # noqa: ANN401 - urllib3's own arguments
        super().__init__(**more)
        self._propagator = propagator

    def urlopen(  # type: ignore[override] # urllib3 declares the keywords in one of its two only
        self,
        method: str,
        url: str,
        redirect: bool = True,  # noqa: FBT001, FBT002 - urllib3's
        **more: Any,  # noqa: ANN401 - urllib3's
    ) -> BaseHTTPResponse:
        """Send one request with the mark of the work at hand."""
        place, headers = parse_url(url), HTTPHeaderDict(more.pop("headers", None) or self.headers)
        port = port_of(place.scheme, place.port)
        self._propagator.departing(Mapped(headers, headers.getlist), place.host or "", port, WIRE)
        return super().urlopen(method, url, redirect=redirect, headers=headers, **more)
