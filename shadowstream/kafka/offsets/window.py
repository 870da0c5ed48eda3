"""One partition during one assignment: what to commit, and what was finished before.

A new assignment is a new window, so nothing that an older one finishes late can reach a commit. Traps:

* A strand advances `Piece.done` while the owner thread reads it: a stale read makes the commit later, never wrong
  (``test_a_commit_never_passes_an_unfinished_message``).
* A topic that is deleted and made anew, or a log that lost its end, goes back: its offsets mean other messages
  (``test_a_log_that_goes_back_has_its_books_opened_anew``).
* Offsets have gaps (transaction markers, compaction): nothing here ever waits for ``offset + 1``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shadowstream.kafka.offsets.done import NOTHING_DONE, Done, joined
from shadowstream.kafka.offsets.piece import offset_of

if TYPE_CHECKING:
    from confluent_kafka import Message as RawMessage

    from shadowstream.events import Outcome
    from shadowstream.kafka.offsets.done import Ranges
    from shadowstream.kafka.offsets.piece import Piece
    from shadowstream.kafka.transactions.ledger import Ledger

__all__ = ["Due", "Window"]


@dataclass(frozen=True, slots=True)
class Due:
    """One snapshot of the books, as it is to be committed."""

    offset: int
    """The lowest offset that is not answered for."""
    metadata: str
    """What is finished above it; "" when nothing is."""
    finished: int
    """Messages of this assignment that it answers for, below and above the offset."""
    above: Done = field(default=NOTHING_DONE, compare=False)
    """What the metadata says."""

    def covers(self, offset: int) -> bool:
        """Tell whether a restart from here would leave an offset out."""
        return offset < self.offset or offset in self.above


class Window:
    """The books of one partition during one assignment; read and written by the owner thread only."""

    __slots__ = ("_before", "_known", "_pieces", "_received", "asked", "confirmed", "ledger", "position")

    def __init__(self, position: int | None = None, before: Done = NOTHING_DONE) -> None:
        self.position = position
        """Next offset expected from the broker; None before the first message."""
        self.asked: Due | None = None
        """What was last asked to be committed in this assignment; None when that is to be done again."""
        self.confirmed = 0
        """Messages of this assignment that the last commit that succeeded answers for."""
        self.ledger: Ledger | None = None
        """What handlers produced and no transaction has committed yet; None: the topic has no transactions."""
        self._before = before
        self._pieces: list[Piece] = []
        self._received = 0
        self._known: Counter[Outcome] = Counter()

    @classmethod
    def after(cls, offset: int, metadata: str | None) -> Window:
        """Begin where a commit says; a negative offset: there is none."""
        if offset < 0:
            return cls()
        window = cls(offset, Done.read(metadata, offset))
        window.asked = Due(offset, metadata or "", 0)
        return window

    def passed(self, messages: list[RawMessage]) -> bool:
        """Tell whether the log goes back with these messages: their offsets were expected before."""
        return self.position is not None and offset_of(messages[0]) < self.position

    def fresh(self, messages: list[RawMessage]) -> list[RawMessage]:
        """Leave out what an earlier assignment finished, and note that it was read."""
        before = self._before
        if before.end:
            self._advance(messages[-1])
            messages = [each for each in messages if offset_of(each) not in before]
            if self.position is not None and self.position >= before.end:
                self._before = NOTHING_DONE
        return messages

    def opened(self, piece: Piece, *, again: bool = False) -> None:
        """Take up messages that were read, or that are to be handled again."""
        piece.ledger = self.ledger
        self._pieces.append(piece)
        self._received += 0 if again else piece.count
        self._advance(piece.messages[-1])

    def _advance(self, last: RawMessage) -> None:
        after = offset_of(last) + 1
        self.position = after if self.position is None else max(self.position, after)

    def settle(self) -> None:
        """Take out what the pieces know about how their messages ended, and let go of finished pieces."""
        # Asked before the answers are taken: what is answered for in between is asked again next time.
        unfinished = [piece for piece in self._pieces if piece.lowest() is not None or piece.awaits_commit()]
        for piece in self._pieces:
            self._known.update(piece.answers())
        self._pieces = unfinished

    def committable(self) -> int | None:
        """Return the next offset to fetch after a restart: everything below it is answered for."""
        lows = [low for piece in self._pieces if (low := piece.lowest()) is not None]
        return min(lows, default=self.position)

    def due(self) -> Due | None:
        """Return what to commit now, None when nothing is new."""
        due, asked = self.snapshot(), self.asked
        if due is None or asked is None:
            return due
        same = due.offset == asked.offset and due.metadata == asked.metadata
        return None if same or due.offset < asked.offset else due

    def snapshot(self) -> Due | None:
        """Return the books as they stand, None before anything is known."""
        unfinished = self._unfinished()
        offset = unfinished[0][0] if unfinished else self.position
        if offset is None:
            return None
        done = self._done_above(offset, unfinished)
        metadata, said = done.written()
        return Due(offset, metadata, self._received - _count(unfinished) - (done.count() - said.count()), said)

    def _unfinished(self) -> Ranges:
        return joined(sorted({each for piece in self._pieces for each in piece.unfinished()}))

    def _done_above(self, offset: int, unfinished: Ranges) -> Done:
        position = self.position or 0
        if self._before.end > position:
            return Done(offset, self._before.end, joined([*unfinished, *self._before.above(position)]))
        return Done(offset, position, unfinished)

    def repeated_by_a_crash(self) -> int:
        """Return how many finished messages would be handled again if the process died now."""
        return max(self._received - _count(self._unfinished()) - self.confirmed, 0)

    def answers(self) -> Counter[Outcome]:
        """Take the numbers of messages whose end was learned late, by outcome."""
        known, self._known = self._known, Counter()
        return known

    def cancel(self) -> None:
        """Let nothing further start."""
        for piece in self._pieces:
            piece.cancelled = True

    def quiet(self) -> bool:
        """Tell whether no handler runs and no delivery report is awaited."""
        return not any(piece.running or piece.held for piece in self._pieces)


def _count(ranges: Ranges) -> int:
    return sum(after - first for first, after in ranges)
