"""The load: numbered normal and shadow messages, at a steady pace, each acknowledged by all copies in step."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from tests.chaos.oracle import Acked
from tests.chaos.records import Kind, Order

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

MARK = b"1;run=chaos"
MARKS = {Kind.EXPIRED: MARK + b";exp=1000000000", Kind.GARBLED: b"1;run="}
KEYS = 200
FAT_BYTES = 900 * 1024
TICK_S = 0.01
MOST_AT_ONCE = 200
FLUSH_S = 150.0
NORMAL_KINDS = {Kind.PLAIN: 10_000, Kind.SLOW: 10, Kind.FLAKY: 10, Kind.POISON: 4}
SHADOW_KINDS = NORMAL_KINDS | {Kind.SLOW: 30, Kind.EXPIRED: 50, Kind.GARBLED: 20}
PROPERTIES = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "message.max.bytes": 1_000_000,
    "message.timeout.ms": 120_000,
    "request.timeout.ms": 5_000,
    "socket.timeout.ms": 10_000,
    "reconnect.backoff.max.ms": 500,
    "queue.buffering.max.messages": 20_000,
    "log_level": 0,
}


@dataclass(slots=True)
class Source:
    """Where the messages of one topic go, by lane, and over how many partitions."""

    topic: str
    shadow_topic: str
    partitions: int


@dataclass(slots=True)
class Share:
    """How many messages of one lane there are to send at the steady pace."""

    lane: str
    total: int
    per_s: float
    kept: float = 0.1
    """What part is kept for the end, when nothing is broken any more."""
    sent: int = 0

    @property
    def steady(self) -> int:
        """How many are sent before the rest."""
        return self.total - int(self.total * self.kept)

    def due(self, elapsed_s: float, *, rest: bool) -> int:
        """Return how many should be sent now."""
        left = (self.total if rest else self.steady) - self.sent
        return min(left, int(elapsed_s * self.per_s) - self.sent, MOST_AT_ONCE)


@dataclass
class Load:
    """A thread that sends; ``burst`` adds what a fault wants sent."""

    bootstrap: str
    sources: list[Source]
    shares: list[Share]
    seed: int
    sent: dict[int, Order] = field(default_factory=dict)
    acked: dict[int, Acked] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """Why messages were not acknowledged."""
    _bursts: deque[tuple[Order, Source]] = field(default_factory=deque)
    _numbers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _resting: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"load {self.seed}")
        self._producer = Producer({"bootstrap.servers": self.bootstrap, **PROPERTIES})
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def ended(self) -> None:
        """Wait until everything is sent and acknowledged, or given up."""
        self._ended.set()
        self._thread.join()
        if self._failures:
            raise self._failures[0]

    def rest(self) -> None:
        """Send what was kept, at the steady pace from now on."""
        self._resting.set()

    def burst(self, lane: str, kind: Kind, count: int, source: Source | None = None) -> list[int]:
        """Send some messages beside the steady ones; returns their numbers."""
        with self._lock:
            numbers = range(self._numbers, self._numbers + count)
            self._numbers += count
        orders = [Order(lane, number, kind) for number in numbers]
        self._bursts.extend((order, source or self.sources[order.number % len(self.sources)]) for order in orders)
        return list(numbers)

    def spread(self, source: Source, partitions: int) -> None:
        """Use more partitions, now that they are there."""
        self._producer.list_topics(timeout=10)
        source.partitions = partitions

    def _run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - said by `ended`, in the thread that asks
            self._failures.append(error)

    def _send_all(self) -> None:
        began = time.monotonic()
        rest = False
        while not (self._ended.is_set() and not self._bursts and all(each.sent >= each.total for each in self.shares)):
            if self._resting.is_set() and not rest:
                rest, began = True, time.monotonic() - min(each.sent / each.per_s for each in self.shares)
            for share in self.shares:
                for _ in range(share.due(time.monotonic() - began, rest=rest)):
                    self._one(share)
            while self._bursts:
                self._send(*self._bursts.popleft())
            self._producer.poll(TICK_S)
        left = self._producer.flush(FLUSH_S)
        if left:
            self.refused.append(f"{left} still without an answer after {FLUSH_S:g} s")

    def _one(self, share: Share) -> None:
        kinds = NORMAL_KINDS if share.lane == "n" else SHADOW_KINDS
        kind = self._chance.choices(list(kinds), list(kinds.values()))[0]
        with self._lock:
            number = self._numbers
            self._numbers += 1
        self._send(Order(share.lane, number, kind), self._chance.choice(self.sources))
        share.sent += 1

    def _send(self, order: Order, source: Source) -> None:
        key = f"k{self._chance.randrange(KEYS)}".encode()
        shadow = order.lane == "s"
        own_topic = shadow and source.shadow_topic != source.topic
        partitions = min(source.partitions, 2) if own_topic else source.partitions
        self.sent[order.number] = order
        while True:
            try:
                self._producer.produce(
                    source.shadow_topic if shadow else source.topic,
                    order.written(FAT_BYTES if order.kind is Kind.FAT else 0),
                    key,
                    zlib.crc32(key) % partitions,
                    partial(self._answered, order.number),
                    headers=[("x-shadow", MARKS.get(order.kind, MARK))] if shadow else None,
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self.refused.append(error.args[0].name())
                return
            else:
                return

    def _answered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.refused.append(error.name())
            return
        offset = message.offset()
        place = message.topic() or "", message.partition() or 0, offset if offset is not None and offset >= 0 else None
        self.acked[number] = Acked(*place, time.monotonic_ns())
