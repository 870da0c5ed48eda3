"""Marks in gRPC metadata, which is a list of pairs with lower-case names, and the codes that refusals have."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from grpc import StatusCode

from shadowstream.propagate.carrier import Pairs
from shadowstream.propagate.hosts import split
from shadowstream.propagate.refusals import EXPIRED, NO_LEASE, NOT_TAKING_PART, SHADOW_OFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from grpc import HandlerCallDetails

    from shadowstream.propagate.propagator import Arrival, Propagator

    Metadata = Iterable[tuple[str, Any]] | None

__all__ = ["WIRE", "Stamp", "arrived", "code", "place_of"]

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


def code(reason: str) -> StatusCode:
    """Return the status of a call that is refused for ``reason``."""
    return CODES.get(reason, StatusCode.INVALID_ARGUMENT)


def arrived(propagator: Propagator, call: HandlerCallDetails) -> Arrival | None:
    """Say what a call is that came; None when it has nothing that may be a mark."""
    metadata = call.invocation_metadata or ()
    if all(name not in propagator.names for name, _ in metadata):
        return None
    return propagator.arrived(Pairs(metadata), WIRE)


class Stamp:
    """Puts the mark of the work at hand into the metadata of calls to one target."""

    def __init__(self, propagator: Propagator, target: str) -> None:
        self._propagator = propagator
        self._host, self._port = place_of(target)

    def on(self, metadata: Metadata) -> list[tuple[str, Any]]:
        """Return a call's metadata with the mark in it.

        Raises:
            NotAllowedError: the work at hand is shadow, and the configuration does not list the target's host.
            MarkError: the metadata have a mark already that is not the one of the work at hand.
        """
        carrier = Pairs(metadata or ())
        self._propagator.departing(carrier, self._host, self._port, WIRE)
        return carrier.pairs


def place_of(target: str) -> tuple[str, int | None]:
    """Return the host and port that a target names: ``host:port``, ``dns:///host:port``, ``ipv4:...``, ``unix:...``."""
    scheme, _, rest = target.partition(":")
    if scheme in {"unix", "unix-abstract"}:
        return "unix", None
    if scheme in {"dns", "ipv4", "ipv6", "xds", "passthrough"} and not rest.isdigit():
        target = rest.rpartition("/")[2]
    return split(target)
