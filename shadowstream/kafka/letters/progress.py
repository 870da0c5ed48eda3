"""Which letters of one partition are answered for: pure books, and the note that keeps them in a commit.

A consumer group keeps one offset for each partition, and a replay of some letters leaves others behind. So what lies
above the first unanswered letter is kept beside it, as the commit's metadata: stretches, compressed. A broker takes
4095 characters of that: letters chosen by chance among 10 000 fit, and long stretches without an end. Trap: a note that
has grown too long could not be committed, so a replay ends while it still fits
(``test_a_note_says_that_it_is_full_while_it_still_fits``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from shadowstream.kafka.offsets.runs import numbers_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BETWEEN_NOTES", "MOST_CHARACTERS", "Progress"]

FORM = "replay1:"
MOST_CHARACTERS: Final = 4095
BETWEEN_NOTES: Final = 100
"""How many letters may be answered for between two notes."""
FULL_CHARACTERS: Final = MOST_CHARACTERS - 8 * BETWEEN_NOTES
"""A letter far from all others adds four bytes for the gap before it, one for itself: less than eight characters."""
START, END = itemgetter(0), itemgetter(1)


class Progress:
    """One partition's books."""

    __slots__ = ("_stretches", "first")

    def __init__(self, first: int = 0) -> None:
        self.first = first
        """The first offset that is not answered for; everything below it is."""
        self._stretches: list[tuple[int, int]] = []
        """What is answered for above it, ends left out; in order, apart from each other and from `first`."""

    def knows(self, offset: int) -> bool:
        """Tell whether a letter is answered for."""
        at = bisect_right(self._stretches, offset, key=START)
        return offset < self.first or (at > 0 and offset < self._stretches[at - 1][1])

    def passed(self, start: int, end: int) -> None:
        """Take note that nothing from ``start`` to before ``end`` is left to be answered for; offsets have gaps."""
        start = max(start, self.first)
        if end <= start:
            return
        first, after = bisect_left(self._stretches, start, key=END), bisect_right(self._stretches, end, key=START)
        if first < after:
            start, end = min(start, self._stretches[first][0]), max(end, self._stretches[after - 1][1])
        if start == self.first:
            self.first = end
            del self._stretches[:after]
        else:
            self._stretches[first:after] = [(start, end)]

    def note(self) -> str:
        """Return what lies above `first` as text; empty when nothing does."""
        if not self._stretches:
            return ""
        return FORM + text_of(self._steps())

    @property
    def full(self) -> bool:
        """Tell whether a note of what is to come might not fit."""
        return len(self.note()) > FULL_CHARACTERS

    @classmethod
    def from_note(cls, first: int, note: str | None) -> Progress:
        """Read a commit; metadata that is not a note of ours tells nothing."""
        progress = cls(first)
        if note and note.startswith(FORM):
            try:
                steps = numbers_of(note.removeprefix(FORM))
            except ValueError:
                return progress
            at = first
            for gap, length in zip(steps[::2], steps[1::2], strict=False):
                progress.passed(at + gap, at + gap + length)
                at += gap + length
        return progress

    def _steps(self) -> Iterator[int]:
        """Give each stretch as two steps: from the end of the one before to its start, and on to its end."""
        at = self.first
        for start, end in self._stretches:
            yield from (start - at, end - start)
            at = end
