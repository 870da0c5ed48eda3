"""Where groups stand: the committed offsets, and those that open transactions will commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowstream.testing.answers import Place

__all__ = ["METADATA_LIMIT", "Offsets", "Stand"]

METADATA_LIMIT = 4095
"""Bytes of metadata that a broker takes with its default ``offset.metadata.max.bytes`` (4096, and the NUL counts)."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One committed offset."""

    offset: int
    """The next one to be read."""
    metadata: str | None = None


@dataclass(slots=True)
class Offsets:
    """One group's offsets; they outlive its members."""

    stands: dict[Place, Stand] = field(default_factory=dict)
    pending: dict[object, dict[Place, Stand]] = field(default_factory=dict)
    """By open transaction."""
    history: list[tuple[Place, Stand]] = field(default_factory=list)
    """Every commit that was ever applied, in order: what a test of laws looks at."""

    def commit(self, place: Place, stand: Stand) -> None:
        """Note where the group stands."""
        self.stands[place] = stand
        self.history.append((place, stand))

    def unstable(self, place: Place) -> bool:
        """Tell whether an open transaction is about to commit this partition."""
        return any(place in stands for stands in self.pending.values())

    def settle(self, work: object, *, committed: bool) -> None:
        """End a transaction's part in this group."""
        for place, stand in self.pending.pop(work, {}).items():
            if committed:
                self.commit(place, stand)
