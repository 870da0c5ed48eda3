"""One partition's log: append only, with offsets that no consumer ever sees.

A transaction's records are there from the start and hidden until it ends; its end takes an offset of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_END, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["End", "Headers", "Log", "Record", "Work"]

Headers = list[tuple[str, bytes | None]]


class End(Enum):
    """How a transaction stands."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Work:
    """One transaction, as the records that belong to it know it."""

    end: End = End.OPEN


@dataclass(slots=True)
class Record:
    """One message as it lies in the log."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp: int
    """Milliseconds since the epoch."""
    work: Work | None = None
    """The transaction it belongs to."""
    offset: int = -1
    """Given by the log."""

    def size(self) -> int:
        """Return its bytes: key, value and headers."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers or ())
        return len(self.key or b"") + len(self.value or b"") + headers

    def message(self) -> Message:
        """Return it as a consumer reads it: a fresh object, as messages can be changed."""
        return Message(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            key=self.key,
            value=self.value,
            headers=self.headers,  # type: ignore[arg-type] # typed as what produce() takes
            timestamp=(1, self.timestamp),
            leader_epoch=0,
        )


class Log:
    """The records of one partition, by offset."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._offsets: list[int] = []
        self._open: dict[Work, int] = {}
        self.start = 0
        """The first offset that can be asked for; what was before is deleted."""
        self.end = 0
        """The offset that the next record gets."""

    def append(self, record: Record) -> int:
        """Keep a record, and return its offset."""
        record.offset = self.end
        if record.work is not None:
            self._open.setdefault(record.work, self.end)
        self.records.append(record)
        self._offsets.append(self.end)
        self.end += 1
        return record.offset

    def skip(self, offsets: int = 1) -> None:
        """Use up offsets that no consumer ever sees, as transaction markers do."""
        self.end += offsets

    def close(self, work: Work) -> None:
        """Write a transaction's marker, if it has records here; its ``end`` says which."""
        if self._open.pop(work, None) is not None:
            self.skip()

    def compact(self, offset: int) -> bool:
        """Take one record out, as compaction does; False when there is none at this offset."""
        at = bisect_left(self._offsets, offset)
        if self._offsets[at : at + 1] != [offset]:
            return False
        del self._offsets[at], self.records[at]
        return True

    def since(self, moment_ms: int) -> int:
        """Return the offset of the first record that is not older than a moment; -1: there is none."""
        return next((record.offset for record in self.records if record.timestamp >= moment_ms), OFFSET_END)

    def delete_before(self, offset: int) -> None:
        """Drop the records below an offset, as retention does."""
        self.start = min(max(self.start, offset), self.end)
        at = bisect_left(self._offsets, self.start)
        del self._offsets[:at], self.records[:at]

    @property
    def stable(self) -> int:
        """The offset from which on transactions are open: a committed read ends here."""
        return min(self._open.values()) if self._open else self.end

    def read(self, offset: int, limit: int, *, committed: bool = True) -> tuple[list[Record], int]:
        """Return up to ``limit`` records from an offset on, and the offset to go on from."""
        end = self.stable if committed else self.end
        found: list[Record] = []
        if offset < end and limit > 0:
            for record in self._from(offset, end):
                if committed and record.work is not None and record.work.end is End.ABORTED:
                    continue
                found.append(record)
                if len(found) == limit:
                    return found, record.offset + 1
        return found, max(offset, end)

    def _from(self, offset: int, end: int) -> Iterator[Record]:
        for at in range(bisect_left(self._offsets, offset), len(self.records)):
            record = self.records[at]
            if record.offset >= end:
                return
            yield record
