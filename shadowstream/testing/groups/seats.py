"""What both kinds of groups know of a member, and what a member shows when it asks for something."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.testing.answers import Place

__all__ = ["NOBODY", "Application", "Credentials", "Seat", "next_expiry"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who somebody says they are."""

    member: str = ""
    """Empty: not a member of the group."""
    epoch: int = -1
    """The generation, or the member epoch; -1: none."""
    instance: str | None = None
    """The static member's ``group.instance.id``."""


NOBODY = Credentials()


@dataclass(frozen=True, slots=True)
class Application:
    """What a client says of itself when it joins."""

    topics: tuple[str, ...]
    session_s: float
    """How long the group waits for a sign of life."""
    rebalance_s: float
    """How long the group waits for it in a rebalance."""
    cooperative: bool = False
    """Whether a member keeps its partitions while it rejoins; classic groups only."""
    instance: str | None = None
    name: str = "member"
    """What its member id begins with."""


@dataclass(slots=True)
class Seat:
    """One member, as the group knows it."""

    id: str
    application: Application
    expires_at: float
    """When its session ends without a further sign of life."""
    assigned: set[Place] = field(default_factory=set)
    owned: set[Place] = field(default_factory=set)
    """What the client said it holds."""

    def seen(self, now: float) -> None:
        """Take note of a sign of life."""
        self.expires_at = now + self.application.session_s


def next_expiry(seats: Iterable[Seat]) -> float:
    """Return when the next session ends; infinity without members."""
    return min((seat.expires_at for seat in seats), default=float("inf"))
