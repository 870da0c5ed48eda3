"""How the last calls ended: of the last so many, or of the last so many seconds.

Both are resilience4j's sliding windows (count-based and time-based): sums are kept, so a call costs the same however
many there are. The time-based one is cut into slots, and forgets a slot at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from shadowstream.config.model import BreakerRule

__all__ = ["FAILED", "SLOW", "CountWindow", "TimeWindow", "Window", "window_of"]

# The bits of a call in a window.
FAILED: Final = 1
SLOW: Final = 2

SLOTS: Final = 10
"""How many a time window is cut into: it covers between nine tenths of its time and all of it."""


class Window(Protocol):
    """Sums over the calls that still count."""

    calls: int
    failures: int
    slows: int

    def record(self, call: int, now: float) -> None:
        """Note one call (0, or `FAILED` and `SLOW` added up) at monotonic second ``now``."""
        ...

    def clear(self) -> None:
        """Forget every call."""
        ...


def window_of(rule: BreakerRule) -> Window:
    """Return the window that a rule asks for."""
    return CountWindow(max(1, rule.window)) if rule.window_s is None else TimeWindow(rule.window_s)


class CountWindow:
    """The last ``size`` calls."""

    __slots__ = ("_at", "_ring", "calls", "failures", "slows")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self.clear()

    def clear(self) -> None:
        """Forget every call."""
        self._ring[:] = bytes(len(self._ring))
        self._at = self.calls = self.failures = self.slows = 0

    def record(self, call: int, now: float) -> None:  # noqa: ARG002 - the windows' signature
        """Note one call; the oldest goes when the window is full."""
        ring, at = self._ring, self._at
        gone = ring[at]
        ring[at] = call
        self._at = at + 1 if at + 1 < len(ring) else 0
        if self.calls < len(ring):
            self.calls += 1
        if call or gone:
            self.failures += (call & FAILED) - (gone & FAILED)
            self.slows += (call >> 1) - (gone >> 1)


class TimeWindow:
    """The calls of the last ``seconds``."""

    __slots__ = ("_newest", "_slot_s", "_slots", "calls", "failures", "slows")

    def __init__(self, seconds: float) -> None:
        self._slot_s = seconds / SLOTS
        self.clear()

    def clear(self) -> None:
        """Forget every call."""
        self._slots = [[0, 0, 0] for _ in range(SLOTS)]
        self._newest = 0
        self.calls = self.failures = self.slows = 0

    def record(self, call: int, now: float) -> None:
        """Note one call, and forget the slots whose time is over; a clock set back forgets nothing."""
        number = int(now / self._slot_s)
        for passed in range(max(self._newest + 1, number - SLOTS + 1), number + 1):
            self._forget(passed % SLOTS)
        self._newest = max(self._newest, number)
        failed, slow = call & FAILED, call >> 1
        slot = self._slots[self._newest % SLOTS]
        slot[0] += 1
        slot[1] += failed
        slot[2] += slow
        self.calls += 1
        self.failures += failed
        self.slows += slow

    def _forget(self, slot: int) -> None:
        calls, failures, slows = self._slots[slot]
        self._slots[slot] = [0, 0, 0]
        self.calls -= calls
        self.failures -= failures
        self.slows -= slows
