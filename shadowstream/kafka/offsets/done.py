"""What is finished above a commit, as it is written into the commit's metadata.

A restart reads on from the lowest unfinished offset, and would repeat all that was finished above it. So each commit
says in its metadata which offsets above it are *not* finished; everything else up to its end is. Ranges of unfinished
offsets are short where many messages are finished, and gaps in offsets cost nothing.

``ss1;BASE;END;CRC;RANGES``: BASE is the committed offset, CRC the CRC-32 of the rest, RANGES alternate between how many
are finished and how many are not (`runs`). Traps:

* A broker takes 4095 characters: a longer list is cut, and then says less, never something wrong
  (``test_what_does_not_fit_says_less_and_never_something_wrong``).
* Metadata is anybody's text: what is not ours, or belongs to another offset, says that nothing is finished
  (``test_metadata_that_is_not_ours_says_nothing_and_never_raises``).
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from shadowstream.kafka.offsets.runs import numbers_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_METADATA", "NOTHING_DONE", "Done", "Ranges", "joined"]

MAX_METADATA = 4095
"""Characters that a broker takes by default (``offset.metadata.max.bytes`` is 4096, and the client sends one more)."""
TAG = "ss1"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Offsets that are finished although the commit is below them."""

    base: int
    """The committed offset; the first one that is not finished."""
    end: int
    """Nothing is said from here on."""
    unfinished: Ranges
    """``(first, after the last)`` of each range from base to end that is not finished, in order."""

    def __contains__(self, offset: int) -> bool:
        """Tell whether an offset is known to be finished."""
        if not self.base <= offset < self.end:
            return False
        at = bisect_right(self.unfinished, (offset, self.end)) - 1
        return at < 0 or offset >= self.unfinished[at][1]

    def above(self, offset: int) -> Ranges:
        """Return what is unfinished from an offset on."""
        return tuple((max(first, offset), after) for first, after in self.unfinished if after > offset)

    def count(self) -> int:
        """Return how many offsets from base to end are finished, gaps among them."""
        return self.end - self.base - sum(after - first for first, after in self.unfinished)

    def written(self) -> tuple[str, Done]:
        """Return it as metadata, "" when it says nothing, and what that says: a list that is too long is cut."""
        if not self.count():
            return "", NOTHING_DONE
        whole = self.text()
        if len(whole) <= MAX_METADATA:
            return whole, self
        fits, too_many = 0, len(self.unfinished)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if len(self.cut(middle).text()) <= MAX_METADATA:
                fits = middle
            else:
                too_many = middle
        shorter = self.cut(fits)
        return (shorter.text(), shorter) if shorter.count() else ("", NOTHING_DONE)

    def cut(self, ranges: int) -> Done:
        """Return what it says about its first ranges of unfinished offsets, up to the next one."""
        if ranges >= len(self.unfinished):
            return self
        return Done(self.base, self.unfinished[ranges][0], self.unfinished[:ranges])

    def text(self) -> str:
        """Return it as metadata, however long that is."""
        text = f"{self.base};{self.end};{text_of(_steps(self))}"
        return f"{TAG};{zlib.crc32(text.encode()):08x};{text}"

    @classmethod
    def read(cls, metadata: str | None, committed: int) -> Done:
        """Read what a commit of this offset says; anything that is not ours says that nothing is finished."""
        tag, _, rest = (metadata or "").partition(";")
        if tag != TAG or len(rest) > MAX_METADATA:
            return NOTHING_DONE
        checksum, _, text = rest.partition(";")
        if checksum != f"{zlib.crc32(text.encode(errors='replace')):08x}":
            return NOTHING_DONE
        try:
            base, end, packed = text.split(";", 2)
            done = cls(int(base), int(end), _ranges(int(base), int(end), numbers_of(packed)))
        except ValueError:
            return NOTHING_DONE
        return done if done.base == committed else NOTHING_DONE


NOTHING_DONE = Done(0, 0, ())


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Join ranges, given in order, that touch or overlap."""
    whole: list[tuple[int, int]] = []
    for first, after in ranges:
        if whole and first <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(after, whole[-1][1]))
        else:
            whole.append((first, after))
    return tuple(whole)


def _steps(done: Done) -> Iterator[int]:
    """Give how many are finished, and how many are not, in turns."""
    at = done.base
    for first, after in done.unfinished:
        yield from (first - at, after - first)
        at = after


def _ranges(base: int, end: int, steps: list[int]) -> Ranges:
    bounds = list(accumulate(steps, initial=base))[1:]
    if base < 0 or len(bounds) % 2 or (bounds and bounds[-1] > end):
        raise ValueError("not a list of ranges")
    return tuple(zip(bounds[::2], bounds[1::2], strict=True))
