"""What the HTTP clients share: the wire's name, and the port that a URL leaves out."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["WIRE", "port_of"]

WIRE: Final = "http"
PORTS: Final = MappingProxyType({"http": 80, "https": 443})


def port_of(scheme: str | None, port: int | None) -> int | None:
    """Return the port that a call goes to."""
    return port or PORTS.get(scheme or "")
