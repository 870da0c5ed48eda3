"""The hosts that shadow calls may go to, as the configuration lists them.

``ss-business`` is that host at every port, ``ss-business:8080`` at one, ``*.voucher.internal`` is every name below it.
Nothing is resolved: it is the name of the call that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Hosts", "split"]


class Hosts:
    """Tells whether a host is listed."""

    __slots__ = ("_exact", "_suffixes")

    def __init__(self, listed: Iterable[str]) -> None:
        places = [split(each.lower()) for each in listed]
        self._exact = frozenset(place for place in places if not place[0].startswith("*."))
        self._suffixes = tuple((host[1:], port) for host, port in places if host.startswith("*."))

    def has(self, host: str, port: int | None = None) -> bool:
        """Tell whether calls to this host, by name or address, and port may be made."""
        name = host.strip("[]").rstrip(".").lower()
        if (name, None) in self._exact or (name, port) in self._exact:
            return True
        return any(name.endswith(suffix) and own in {None, port} for suffix, own in self._suffixes)


def split(place: str) -> tuple[str, int | None]:
    """Return the host and the port of ``host``, ``host:port`` or ``[::1]:port``."""
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        # An IPv6 address stands in brackets where a port follows it, as in a URL.
        return place.strip("[]"), None
    return host.strip("[]"), int(port)
