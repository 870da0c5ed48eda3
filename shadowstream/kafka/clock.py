"""Where the engine's time and chance come from, so that a simulation can give its own."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REAL_CLOCK", "Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds since some moment; never goes back."""
    wall: Callable[[], float] = time.time
    """Unix seconds; only marks and due times look at it."""
    chance: Callable[[], float] = random.random
    """A number from 0 to below 1, anew each time; not for secrets."""


REAL_CLOCK: Final = Clock()
