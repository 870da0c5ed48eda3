"""Which keys are asked for most?

Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT
2005): some counters, of which a new key takes over the lowest, count and all. So a key that is asked for oftener
than one time in as many as there are counters is among them, and a count is too high by the lowest one at most.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HotKeys"]

COUNTERS: Final = 10
"""For each key that is told of: the more, the nearer its count is to the truth."""


class HotKeys:
    """Counts what is asked for most; whoever calls holds the lock."""

    __slots__ = ("_counts", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[tuple[str, ...], int] = {}

    def count(self, keys: Iterable[tuple[str, ...]]) -> None:
        """Count each of these keys once."""
        counts = self._counts
        for key in keys:
            if key in counts:
                counts[key] += 1
            elif len(counts) < COUNTERS * self._most:
                counts[key] = 1
            else:
                lowest = min(counts, key=counts.__getitem__)
                counts[key] = counts.pop(lowest) + 1

    def taken(self) -> list[tuple[tuple[str, ...], int]]:
        """Return the keys that were counted most since the last time, and begin anew."""
        counts, self._counts = self._counts, {}
        return nlargest(self._most, counts.items(), key=lambda each: each[1])
