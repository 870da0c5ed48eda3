"""A producer of the broker in memory, with the methods and the manners of ``confluent_kafka.Producer``.

What is produced waits in the client's queue until `send`, which does what the library's own thread would, or the next
poll() or flush(); a crash before that loses it. Delivery reports wait for poll() and flush(), in the order of
production, and a message counts until its report is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from zlib import crc32

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message

from shadowstream.testing.answers import (
    FATAL,
    FENCED,
    MSG_TIMED_OUT,
    NOT_CONFIGURED,
    PURGE_QUEUE,
    STATE,
    TIMED_OUT,
    UNKNOWN_PARTITION,
    Refusal,
    failure,
    metadata_of,
    places_of,
)
from shadowstream.testing.clients.properties import Properties
from shadowstream.testing.groups import Credentials, Stand
from shadowstream.testing.log import End, Headers, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import ClusterMetadata

    from shadowstream.testing.broker import Broker

    OnDelivery = Callable[[KafkaError | None, Message], None]
    Given = Mapping[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]]

__all__ = ["MemoryProducer"]

UNSAID: Any = object()


class Standing(Enum):
    """How far a transactional producer is."""

    NEW = "new"
    READY = "ready"
    OPEN = "open"


@dataclass(slots=True)
class Authorship:
    """What a producer knows of its transactional id; without one it is empty."""

    id: str
    timeout_s: float
    epoch: int = -1
    standing: Standing = Standing.NEW
    failed: KafkaError | None = None
    """Why the open transaction can only be aborted."""
    fatal: KafkaError | None = None
    """Why nothing works any more."""


@dataclass(slots=True)
class Queued:
    """One produced message on its way."""

    record: Record
    on_delivery: OnDelivery | None
    until: float
    """When the client gives up."""
    error: KafkaError | None = None

    def report(self) -> None:
        """Tell how it went."""
        if self.on_delivery is None:
            return
        record = self.record
        self.on_delivery(
            self.error,
            Message(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset if self.error is None else OFFSET_INVALID,
                key=record.key,
                value=record.value,
                error=self.error,
                timestamp=(1, record.timestamp),
            ),
        )


class MemoryProducer:
    """A producer of a `Broker`; made with librdkafka's properties, like ``confluent_kafka.Producer``."""

    def __init__(self, properties: Mapping[str, Any], *, broker: Broker) -> None:
        given = Properties(properties)
        self._broker = broker
        self.name = given.text("client.id", "rdkafka")
        self._limit = given.number("queue.buffering.max.messages", 100_000)
        self._max_bytes = given.number("message.max.bytes", 1_000_000)
        self._timeout_s = given.seconds("delivery.timeout.ms", given.number("message.timeout.ms", 300_000))
        self._answer_s = given.seconds("socket.timeout.ms", 60_000)
        self._on_delivery: OnDelivery | None = given.callback("on_delivery") or given.callback("dr_cb")
        self._waiting: deque[Queued] = deque()
        self._reports: deque[Queued] = deque()
        self._turn = 0
        self._crashed = False
        self._author = Authorship(given.text("transactional.id"), given.seconds("transaction.timeout.ms", 60_000))

    def produce(  # noqa: PLR0913 - confluent-kafka's signature
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        callback: OnDelivery | None = UNSAID,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Given | None = None,
    ) -> None:
        """Queue one message.

        Raises:
            BufferError: the queue is full; poll() makes room.
            KafkaException: the message is too large for this client, or its partition is not there.
        """
        self._check_produces()
        if len(self) >= self._limit:
            raise BufferError("Local: Queue full")
        record = Record(
            topic=topic,
            partition=partition,
            key=_encoded(key),
            value=_encoded(value),
            headers=_listed(headers),
            timestamp=timestamp or int(self._broker.clock.time() * 1000),
        )
        if record.size() > self._max_bytes:
            raise failure("Unable to produce message", KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if partition >= self._broker.topics.get(topic, partition + 1):
            raise failure("Unable to produce message", KafkaError(UNKNOWN_PARTITION))
        # The first of the two names hides the second one, also when it is given as None.
        chosen = on_delivery if callback is UNSAID else callback
        until = self._broker.clock.monotonic() + self._timeout_s
        self._waiting.append(Queued(record, chosen or self._on_delivery, until))

    def poll(self, timeout: float = -1) -> int:
        """Send what waits, and serve delivery reports; returns how many."""
        clock = self._broker.clock
        until = self._until(timeout)
        self.send()
        while not (served := self._serve()) and clock.monotonic() < until:
            clock.advance_to(min(until, self._due()))
            self.send()
        return served

    def flush(self, timeout: float = -1) -> int:
        """Send what waits and serve delivery reports until nothing is left or time is up; returns what is left."""
        clock = self._broker.clock
        until = self._until(timeout)
        while len(self):
            self.send()
            if not self._serve():
                if clock.monotonic() >= until:
                    break
                clock.advance_to(min(until, self._due()))
        return len(self)

    def send(self) -> None:
        """Do what the library's own thread does between calls: bring what waits to the broker, if it answers."""
        now = self._broker.clock.monotonic()
        reached = not self._crashed and self._broker.faults.reaches(self.name)
        if reached:
            self._broker.settle()
        while self._waiting and (reached or self._waiting[0].until <= now):
            queued = self._waiting.popleft()
            if reached:
                self._deliver(queued)
            else:
                queued.error = KafkaError(MSG_TIMED_OUT)
            if queued.error is not None and self._author.standing is Standing.OPEN:
                self._author.failed = queued.error
            self._reports.append(queued)

    def purge(self) -> None:
        """Give up what waits; the reports say so."""
        while self._waiting:
            queued = self._waiting.popleft()
            queued.error = KafkaError(PURGE_QUEUE)
            self._reports.append(queued)

    def crash(self) -> None:
        """Be gone as a killed process is: what was not sent is lost, and nobody is told."""
        self._crashed = True
        self._waiting.clear()
        self._reports.clear()

    def __len__(self) -> int:
        """Return how many messages wait to be sent or reported."""
        return len(self._waiting) + len(self._reports)

    def __bool__(self) -> bool:
        """Be true, with nothing in the queue too."""
        return True

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """Return what topics there are."""
        self._reach("Failed to get metadata", timeout)
        return metadata_of(self._broker.topics, topic)

    # Transactions

    def init_transactions(self, timeout: float = -1) -> None:
        """Take the transactional id over from whoever had it before."""
        author = self._author
        if not author.id:
            raise failure("Failed to initialize transactions", KafkaError(NOT_CONFIGURED))
        self._reach("Failed to initialize Producer ID", timeout)
        author.epoch = self._broker.transactions.enroll(author.id, author.timeout_s)
        author.standing = Standing.READY

    def begin_transaction(self) -> None:
        """Begin one; what is produced from here on belongs to it."""
        self._check_standing(Standing.READY, "begin_transaction")
        self._author.standing, self._author.failed = Standing.OPEN, None

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: tuple[str, Credentials], timeout: float = -1
    ) -> None:
        """Commit a consumer's offsets with the transaction."""
        self._check_standing(Standing.OPEN, "send_offsets_to_transaction")
        self._reach("Failed to send offsets", timeout)
        group, who = group_metadata
        pairs = zip(places_of(positions), positions, strict=True)
        stands = {place: Stand(each.offset, each.metadata) for place, each in pairs if each.offset >= 0}
        author = self._author
        try:
            self._broker.transactions.offsets(author.id, author.epoch, group, who, stands)
        except Refusal as refusal:
            self._refused(refusal.code)
            raise KafkaException(author.fatal or author.failed) from None

    def commit_transaction(self, timeout: float = -1) -> None:
        """Deliver what waits, and let it and the offsets be seen together."""
        self._check_standing(Standing.OPEN, "commit_transaction")
        self.flush(timeout)
        if self._author.failed is not None:
            code, text = self._author.failed.code(), self._author.failed.str()
            raise KafkaException(KafkaError(code, f"Transaction failed: {text}", txn_requires_abort=True))
        self._end(End.COMMITTED, timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        """Let nothing of it be seen."""
        self._check_standing(Standing.OPEN, "abort_transaction")
        self.purge()
        self.flush(timeout)
        self._end(End.ABORTED, timeout)

    # Inside

    def _until(self, timeout: float) -> float:
        return self._broker.clock.monotonic() + (timeout if timeout >= 0 else self._timeout_s)

    def _due(self) -> float:
        return min((queued.until for queued in self._waiting), default=float("inf"))

    def _serve(self) -> int:
        if self._broker.faults.holding:
            return 0
        served = 0
        while self._reports:
            self._reports.popleft().report()
            served += 1
        return served

    def _deliver(self, queued: Queued) -> None:
        """Append a message to its log, unless the broker refuses it."""
        faults = self._broker.faults.deliveries
        fault = faults.popleft() if faults else None
        if fault is not None and not fault.applied:
            queued.error = KafkaError(fault.code)
            return
        try:
            self._append(queued.record)
        except Refusal as refusal:
            queued.error = refusal.error
            self._refused(refusal.code)
        else:
            queued.error = KafkaError(fault.code) if fault is not None else None

    def _append(self, record: Record) -> None:
        partitions = self._broker.topics.get(record.topic)
        if partitions is None:
            raise Refusal(KafkaError.UNKNOWN_TOPIC_OR_PART)
        if record.partition < 0:
            record.partition = self._partition(record.key, partitions)
        if record.size() > self._broker.max_message_bytes:
            raise Refusal(KafkaError.MSG_SIZE_TOO_LARGE)
        log = self._broker.log(record.topic, record.partition)
        author = self._author
        if author.id:
            place = (record.topic, record.partition)
            record.work = self._broker.transactions.work(author.id, author.epoch, place)
        log.append(record)

    def _partition(self, key: bytes | None, partitions: int) -> int:
        if key is not None:
            return crc32(key) % partitions
        self._turn += 1
        return self._turn % partitions

    def _reach(self, what: str, timeout: float) -> None:
        if not self._broker.faults.reaches(self.name):
            self._broker.clock.advance(timeout if timeout >= 0 else self._answer_s)
            raise failure(what, KafkaError(TIMED_OUT))
        self._broker.settle()

    def _check_produces(self) -> None:
        if self._author.fatal is not None:
            raise failure("Unable to produce message", KafkaError(FATAL))
        if self._author.id and self._author.standing is not Standing.OPEN:
            raise failure("Unable to produce message", KafkaError(STATE))

    def _check_standing(self, standing: Standing, what: str) -> None:
        author = self._author
        if author.fatal is not None:
            raise KafkaException(author.fatal)
        if author.standing is not standing:
            raise failure(f"{what} is not valid in state {author.standing.value}", KafkaError(STATE))

    def _end(self, end: End, timeout: float) -> None:
        self._reach("Failed to end the transaction", timeout)
        try:
            self._broker.transactions.end(self._author.id, self._author.epoch, end)
        except Refusal as refusal:
            self._refused(refusal.code)
            raise KafkaException(self._author.fatal or refusal.error) from None
        self._author.standing, self._author.failed = Standing.READY, None

    def _refused(self, code: int) -> None:
        if code == KafkaError.PRODUCER_FENCED:
            text = "Failed to write: this producer was fenced by another with its transactional.id"
            self._author.fatal = KafkaError(FENCED, text, fatal=True)
        elif self._author.standing is Standing.OPEN:
            self._author.failed = KafkaError(code, txn_requires_abort=True)


def _encoded(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _listed(headers: Given | None) -> Headers | None:
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, _encoded(value)) for name, value in pairs]
