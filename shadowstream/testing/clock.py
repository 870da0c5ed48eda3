"""Time that moves only when a test says so."""

from __future__ import annotations

__all__ = ["Clock"]

WALL_S = 1_795_000_000.0


class Clock:
    """A clock without a world behind it: it starts at a given wall time and is moved by hand."""

    def __init__(self, wall_s: float = WALL_S) -> None:
        self._now_s = 0.0
        self._wall_s = wall_s

    def monotonic(self) -> float:
        """Return the seconds since the clock was made."""
        return self._now_s

    def time(self) -> float:
        """Return the wall time in seconds since the epoch."""
        return self._wall_s + self._now_s

    def advance(self, seconds: float) -> None:
        """Let this much time pass; it can stand in for ``time.sleep``.

        Raises:
            ValueError: the time is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock goes forward only, not by {seconds} s; use jump() to set the wall clock back")
        self._now_s += seconds

    def advance_to(self, moment_s: float) -> None:
        """Let time pass until `monotonic` says exactly this; nothing happens when that is over."""
        self._now_s = max(self._now_s, moment_s)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would; `monotonic` does not notice."""
        self._wall_s += seconds
