"""Marks in gRPC metadata, which is a list of pairs with lower-case names, and the codes that refusals have."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from grpc import StatusCode

from shadowstream.propagate.refusals import EXPIRED, NO_LEASE, NOT_TAKING_PART, SHADOW_OFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shadowstream.propagate.propagator import Propagator

__all__ = ["WIRE", "Stamp", "code", "marks"]

WIRE: Final = "grpc"

CODES: Final[Mapping[str, StatusCode]] = MappingProxyType(
    {
        EXPIRED: StatusCode.FAILED_PRECONDITION,
        NO_LEASE: StatusCode.PERMISSION_DENIED,
        NOT_TAKING_PART: StatusCode.PERMISSION_DENIED,
        # Not UNAVAILABLE: clients ask again by themselves after that.
        SHADOW_OFF: StatusCode.FAILED_PRECONDITION,
    }
)

Pairs = list[tuple[str, Any]]


def code(reason: str) -> StatusCode:
    """Return the status of a call that is refused for ``reason``."""
    return CODES.get(reason, StatusCode.INVALID_ARGUMENT)


def marks(name: str, metadata: Iterable[tuple[str, Any]] | None) -> list[bytes]:
    """Return the values of the mark headers, as many as there are."""
    found = [value for key, value in metadata or () if key == name]
    return [value if isinstance(value, bytes) else value.encode("latin-1", "replace") for value in found]


class Stamp:
    """Puts the mark of the work at hand into the metadata of calls to one target."""

    def __init__(self, propagator: Propagator, target: str) -> None:
        self._propagator = propagator
        self._name = propagator.header.lower()
        self._host, self._port = place_of(target)

    def on(self, metadata: Iterable[tuple[str, Any]] | None) -> Pairs:
        """Return a call's metadata with the mark in it.

        Raises:
            NotAllowedError: the work at hand is shadow, and the configuration does not list the target's host.
            MarkError: the metadata have a mark already that is not the one of the work at hand.
        """
        pairs = list(metadata or ())
        present = marks(self._name, pairs)
        value = self._propagator.departing(self._host, self._port, WIRE, present)
        if present:
            pairs = [pair for pair in pairs if pair[0] != self._name]
        return pairs if value is None else [*pairs, (self._name, value)]


def place_of(target: str) -> tuple[str, int | None]:
    """Return the host and port that a target names: ``host:port``, ``dns:///host:port``, ``ipv4:...``, ``unix:...``."""
    scheme, _, rest = target.partition(":")
    if scheme in {"unix", "unix-abstract"}:
        return "unix", None
    if scheme in {"dns", "ipv4", "ipv6", "xds", "passthrough"} and not rest.isdigit():
        target = rest.rpartition("/")[2]
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        return target.strip("[]"), None
    return host.strip("[]"), int(port)
