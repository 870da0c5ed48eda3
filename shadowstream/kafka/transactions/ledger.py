"""What waits for its transaction: books of a partition, and the bounds of a topic.

A hand puts outputs down before it counts their message as done, and the owner looks at what is done before it takes
outputs out. So whatever a commit answers for is there, and the rest stays: no hand ever waits for a commit. Traps:

* A commit's metadata may say less than what is done: outputs go by what it says, not by what is done
  (``test_outputs_go_by_what_the_commit_says_and_not_by_what_is_done``).
* A partition that is gone takes nothing: what an older assignment finishes late is another member's by now
  (``test_what_is_put_down_after_the_partition_is_gone_is_dropped``).
* Where everything waits for one message, that message must not wait for room
  (``test_a_full_shelf_lets_hands_in_when_no_commit_can_empty_it``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import TopicSettings
    from shadowstream.kafka.offsets import Piece
    from shadowstream.kafka.transactions.outbox import Output

__all__ = ["Entry", "Ledger", "Shelf"]


@dataclass(slots=True, eq=False)
class Entry:
    """What was produced for one message, or for those of a batch."""

    offset: int
    """Of the first of them."""
    outputs: list[Output]
    piece: Piece
    raws: Sequence[RawMessage] = field(default=(), repr=False)
    """The messages; none where the only output is the copy of one."""

    @property
    def size(self) -> int:
        """Return the bytes of all payloads."""
        return sum(output.size for output in self.outputs)


class Shelf:
    """Everything of one topic that waits, in all its partitions."""

    def __init__(self, topic: TopicSettings) -> None:
        self.lock = Lock()
        """Guards the numbers and the ledgers; held for moments."""
        self.stuck = False
        """Set by the owner when the shelf is full and no commit can take anything out."""
        self._max_messages, self._max_bytes = topic.max_messages, topic.max_bytes
        self._messages = self._bytes = 0

    def ledger(self) -> Ledger:
        """Begin the books of a partition."""
        return Ledger(self)

    def level(self) -> float:
        """Return how full it is: at 1.0 and more no handler begins."""
        return max(self._messages / self._max_messages, self._bytes / self._max_bytes)

    def full(self) -> bool:
        """Tell whether handlers must wait until something is committed."""
        return self.level() >= 1.0 and not self.stuck

    def weight(self) -> int:
        """Return how many messages it counts for among those that are read and not finished."""
        return ceil(self.level() * self._max_messages)

    def change(self, entries: Iterable[Entry], sign: int) -> None:
        """Count entries in, or out again; under the lock."""
        for entry in entries:
            self._messages += sign * len(entry.outputs)
            self._bytes += sign * entry.size


class Ledger:
    """What handlers of one partition produced during one assignment and no transaction has committed yet."""

    def __init__(self, shelf: Shelf) -> None:
        self.awaited: set[int] = set()
        """Offsets of messages with outputs here, those on their way in a transaction among them."""
        self._shelf = shelf
        self._entries: list[Entry] = []
        self._closed = False

    def put(self, entry: Entry) -> None:
        """Let outputs wait; their message is counted as done after this."""
        with self._shelf.lock:
            if not self._closed:
                self.awaited.add(entry.offset)
                self._entries.append(entry)
                self._shelf.change([entry], 1)

    def take(self, covers: Callable[[int], bool]) -> list[Entry]:
        """Take out what belongs to the offsets that a commit answers for; it counts as waiting until `spend`."""
        with self._shelf.lock:
            taken = [entry for entry in self._entries if covers(entry.offset)]
            if taken:
                self._entries = [entry for entry in self._entries if not covers(entry.offset)]
        return taken

    def put_back(self, entries: list[Entry]) -> None:
        """Let what was taken wait for another transaction, before all that came later."""
        with self._shelf.lock:
            self._entries[:0] = entries
            if self._closed:
                self._drop()

    def committed(self, entries: list[Entry]) -> None:
        """Forget what was taken, and let it be known how its messages ended."""
        self.spend(entries)
        self.awaited.difference_update(entry.offset for entry in entries)

    def spend(self, entries: list[Entry]) -> None:
        """Forget what was taken."""
        with self._shelf.lock:
            self._shelf.change(entries, -1)

    def close(self) -> None:
        """Drop everything, and whatever comes later: the partition is gone."""
        with self._shelf.lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        self._shelf.change(self._entries, -1)
        self._entries = []
