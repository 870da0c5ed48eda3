"""How much of a limit is open while what is behind it is still cold?

After a start, after a breaker has closed again and after a long time without calls, caches are empty and pools are
small: the full rate at once would trip the breaker anew. So a limit with ``warm_up`` opens from a share of it, in a
straight line over that time, as Sentinel's warm-up does. Idle means that nobody asked for as long as warming up takes.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Ramp", "Warming"]


class Warming(Protocol):
    """A stage whose limit can be opened in part."""

    def tune(self, level: float, now: float) -> None:
        """Open this share of the limit from monotonic second ``now`` on; what was taken stays taken."""
        ...


class Ramp:
    """What share of one stage's limit is open, by the monotonic clock."""

    __slots__ = ("_asked", "_began", "_cold", "_level", "_warm_s", "stage")

    def __init__(self, stage: Warming, warm_s: float, cold: float) -> None:
        self.stage, self._warm_s, self._cold = stage, warm_s, cold
        self._began: float | None = None
        """Monotonic second at which the line begins; None: with the next question."""
        self._asked = 0.0
        self._level = 1.0
        """What the stage was told last."""

    def go_on(self, before: Ramp) -> None:
        """Be where another ramp of the stage was."""
        self._began, self._asked, self._level = before._began, before._asked, before._level

    def skip(self, now: float) -> None:
        """Be done at monotonic second ``now``: the limit was in use before it had to warm up."""
        self._began, self._asked = now - self._warm_s, now

    def restart(self) -> None:
        """Begin anew with the next question."""
        self._began = None

    def ask(self, now: float) -> None:
        """Let the stage have what is open at monotonic second ``now``."""
        if self._began is None or now - self._asked > self._warm_s:
            self._began = now
        self._asked = max(self._asked, now)
        done = min(max((now - self._began) / self._warm_s, 0.0), 1.0)
        level = self._cold + (1.0 - self._cold) * done
        if level != self._level:
            self._level = level
            self.stage.tune(level, now)
