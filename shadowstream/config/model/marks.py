"""How marks are spelled and believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "MarkSettings",
    "SigningKey",
    "Trust",
]


class Trust(StrEnum):
    """Which marks are believed."""

    OPEN = "open"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One HMAC key; the first in the list signs, all of them verify."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """How marks are spelled and believed."""

    header: str = "x-shadow"
    trust: Trust = Trust.OPEN
    keys: tuple[SigningKey, ...] = ()
    max_age_s: float = 6 * 3600.0
    """How far in the future an expiry may lie, and the expiry given to a mark without one."""
    skew_s: float = 30.0
    """How far the clocks of two machines may disagree."""
    max_hops: int = 32
    """How often a mark may be passed on: a chain of that many producers is a loop."""

    @property
    def signed(self) -> bool:
        """Tell whether only signed marks are believed."""
        return self.trust is Trust.SIGNED

    @property
    def secrets(self) -> tuple[tuple[str, bytes], ...]:
        """Return the signing keys by id; the first one signs."""
        return tuple((key.id, key.secret) for key in self.keys)
