"""How the signal crosses wires other than Kafka."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PropagateSettings"]


@dataclass(frozen=True, slots=True)
class PropagateSettings:
    """What a service takes in, and what it lets out."""

    shadow: bool = False
    """Whether the service takes part; if not, whatever carries a mark is refused."""
    edge: bool = False
    """Whether requests come from outside, where anybody may write a mark: those without a signature are taken off."""
    allow: tuple[str, ...] = ()
    """Hosts that shadow calls may go to, with the mark."""
    unmarked: tuple[str, ...] = ()
    """Hosts that shadow calls may go to without it."""
    baggage: bool = False
    """Whether the mark is also sent, and read, as W3C baggage: for hops that pass on nothing else."""
