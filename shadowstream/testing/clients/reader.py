"""What a consumer is assigned, how far it has read each partition, and what is next.

Trap: a paused partition stays paused when it is taken away and given back, as with librdkafka
(``test_a_paused_partition_is_still_paused_after_it_is_assigned_again``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, OFFSET_STORED, KafkaError, Message

from shadowstream.testing.answers import AUTO_OFFSET_RESET, PARTITION_EOF, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import TopicPartition

    from shadowstream.testing.broker import Broker
    from shadowstream.testing.log import Log

__all__ = ["Manner", "Position", "Reader"]

EARLIEST = ("earliest", "smallest", "beginning")
LATEST = ("latest", "largest", "end")
NOWHERE = -1
"""An offset to read from that cannot be known: nothing is read until somebody seeks."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a consumer reads, as its properties say."""

    client: str
    group: str
    reset: str = "largest"
    committed: bool = True
    """Whether messages of open and aborted transactions are left out."""
    stores: bool = True
    """Whether each message's offset is noted for a commit() without arguments."""
    eof: bool = False
    """Whether the end of a partition is told."""


@dataclass(slots=True)
class Position:
    """How far one partition is read."""

    log: Log | None
    """None while there is no such partition."""
    asked: int
    """Where to begin, as the assignment says: an offset or one of the library's names for places."""
    next: int | None = None
    """The offset to read next; None while ``asked`` is not looked up."""
    app: int = OFFSET_INVALID
    """The offset after the last message that was handed out."""
    stored: int = OFFSET_INVALID
    """What a commit() without arguments commits."""
    told: int = -1
    """The end that was told last."""


@dataclass(slots=True)
class Reader:
    """One consumer's partitions."""

    broker: Broker
    manner: Manner
    positions: dict[Place, Position] = field(default_factory=dict)
    paused: set[Place] = field(default_factory=set)
    watermarks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Of the last reads."""
    errors: deque[Message] = field(default_factory=deque)
    """Told before the next message."""
    _last: Place | None = None

    # The assignment

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin to read these."""
        for each in partitions:
            place = (each.topic, each.partition)
            self.positions[place] = Position(self.broker.logs.get(place), each.offset)
        if self._reached():
            for place, position in self.positions.items():
                self._find(place, position)

    def remove(self, places: Iterable[Place]) -> None:
        """Read these no more."""
        for place in places:
            self.positions.pop(place, OFFSET_INVALID)

    def seek(self, place: Place, offset: int) -> None:
        """Read on from another offset."""
        position = self.positions[place]
        position.asked, position.next, position.app, position.stored = offset, None, OFFSET_INVALID, OFFSET_INVALID

    # Reading

    def take(self, limit: int) -> list[Message]:
        """Return the next messages and errors, up to ``limit``."""
        batch: list[Message] = []
        while self.errors and len(batch) < limit:
            batch.append(self.errors.popleft())
        if not self.positions or not self._reached():
            return batch
        ready = [place for place, position in self.positions.items() if self._ready(place, position)]
        ready.sort()
        while ready and len(batch) < limit:
            at = self.broker.pick(ready, self._last) if len(ready) > 1 else 0
            self._last = ready.pop(at)
            batch += self._read(self._last, limit - len(batch))
        # What cannot be read was found out just now.
        while self.errors and len(batch) < limit:
            batch.append(self.errors.popleft())
        return batch

    def end(self, log: Log) -> int:
        """Return where this reader's part of a log ends."""
        return log.stable if self.manner.committed else log.end

    def _reached(self) -> bool:
        return self.broker.faults.reaches(self.manner.client)

    def _ready(self, place: Place, position: Position) -> bool:
        if place in self.paused:
            return False
        if position.next is None and not self._find(place, position):
            return False
        log, at = position.log, position.next
        if log is None or at is None or at == NOWHERE:
            return False
        if not log.start <= at <= log.end:
            self._reset(place, position, KafkaError.OFFSET_OUT_OF_RANGE)
            return False
        end = self.end(log)
        self.watermarks[place] = (log.start, log.end)
        if at >= end and self.manner.eof and position.told != end:
            position.told = end
            self._tell(KafkaError(PARTITION_EOF), place, end)
        return at < end

    def _read(self, place: Place, limit: int) -> list[Message]:
        position = self.positions[place]
        if position.log is None or position.next is None:
            return []
        records, position.next = position.log.read(position.next, limit, committed=self.manner.committed)
        if records:
            position.app = records[-1].offset + 1
            if self.manner.stores:
                position.stored = position.app
        return [record.message() for record in records]

    # Where to begin

    def _find(self, place: Place, position: Position) -> bool:
        """Look up where a partition begins; False when that cannot be told yet."""
        if position.next is not None:
            return True
        if position.log is None:
            position.log = self.broker.logs.get(place)
        log = position.log
        if log is None:
            return False
        if position.asked >= 0:
            position.next = position.asked
        elif position.asked == OFFSET_BEGINNING:
            position.next = log.start
        elif position.asked == OFFSET_END:
            position.next = self.end(log)
        elif position.asked in {OFFSET_STORED, OFFSET_INVALID}:
            self._find_committed(place, position)
        return position.next is not None

    def _find_committed(self, place: Place, position: Position) -> None:
        offsets = self.broker.offsets[self.manner.group]
        if self.manner.committed and offsets.unstable(place):
            return
        stand = offsets.stands.get(place)
        if stand is not None:
            position.next = stand.offset
        else:
            self._reset(place, position, AUTO_OFFSET_RESET)

    def _reset(self, place: Place, position: Position, code: int) -> None:
        if position.log is None:
            return
        if self.manner.reset in EARLIEST:
            position.next = position.log.start
        elif self.manner.reset in LATEST:
            position.next = self.end(position.log)
        else:
            position.next = NOWHERE
            self._tell(
                KafkaError(AUTO_OFFSET_RESET, f"no offset to begin at: {KafkaError(code).str()}"), place, OFFSET_INVALID
            )

    def _tell(self, error: KafkaError, place: Place, offset: int) -> None:
        self.errors.append(Message(topic=place[0], partition=place[1], offset=offset, error=error))
