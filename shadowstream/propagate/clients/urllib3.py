"""urllib3: a pool manager that asks for each request, redirects included.

It is urllib3's own class with one public method overridden: a redirect comes back to that method, and a wrapper around
the manager would not see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from urllib3 import HTTPHeaderDict, PoolManager
from urllib3.util import parse_url

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from shadowstream.propagate.propagator import Propagator

__all__ = ["LanePools"]

WIRE: Final = "http"
PORTS: Final = (("http", 80), ("https", 443))


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
        name, place = self._propagator.header, parse_url(url)
        headers = HTTPHeaderDict(more.pop("headers", None) or self.headers)
        present = [value.encode("latin-1", "replace") for value in headers.getlist(name)]
        port = place.port or dict(PORTS).get(place.scheme or "")
        value = self._propagator.departing(place.host or "", port, WIRE, present)
        headers.discard(name)
        if value is not None:
            headers[name] = value
        return super().urlopen(method, url, redirect=redirect, headers=headers, **more)
