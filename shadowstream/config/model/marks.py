"""How marks are spelled and believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from shadowstream.headers import Keyring

if TYPE_CHECKING:
    from pathlib import Path

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
    path: Path | None = None
    """The file that it was read from; None: an environment variable."""


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """How marks are spelled and believed."""

    header: str = "x-shadow"
    trust: Trust = Trust.OPEN
    keys: tuple[SigningKey, ...] = ()
    """As they were loaded; `keyring` has those in use now."""
    max_age_s: float = 6 * 3600.0
    """How far in the future an expiry may lie, and the expiry given to a mark without one."""
    skew_s: float = 30.0
    """How far the clocks of two machines may disagree."""
    max_hops: int = 32
    """How often a mark may be passed on: a chain of that many producers is a loop."""
    keyring: Keyring = field(default_factory=Keyring, repr=False, compare=False)
    """The signing keys in use, for all readers and writers of these settings."""

    @property
    def signed(self) -> bool:
        """Tell whether only signed marks are believed."""
        return self.trust is Trust.SIGNED
