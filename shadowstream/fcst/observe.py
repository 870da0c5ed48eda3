"""Reads the chain's topics as any other client would, and keeps the books of what passed.

It uses the plain client and looks at nothing but the header's presence, so that it can be held against the services.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from confluent_kafka import Consumer as RawConsumer

from shadowstream.fcst.topics import ENDS
from shadowstream.kafka.outlets import headers_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Message as RawMessage

    from shadowstream.fcst.topics import RunTopics

__all__ = ["Books", "LaneBooks", "Observer", "quantile"]

POLL_S = 0.1
BATCH = 1000
MARK_HEADER = "x-shadow"
LETTERS = MappingProxyType({lane.value[0]: lane for lane in Lane})
"""The lane that a load's ids begin with."""


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value that at least this share of the values does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(ceil(share * len(ordered)), 1) - 1] if ordered else None


@dataclass(slots=True)
class LaneBooks:
    """What was seen of one lane."""

    due: Mapping[str, float]
    """When each message was meant to be sent, by id: the load's own list."""
    arrived: dict[str, float] = field(default_factory=dict)
    """Monotonic second at which each id came to the end of the chain, the first time."""
    again: int = 0
    """Messages at the end of the chain whose id had come before."""
    aside: dict[str, str] = field(default_factory=dict)
    """Ids that went to a side topic, and to which one."""

    def latencies(self, since: float = float("-inf"), until: float = float("inf")) -> list[float]:
        """Return the seconds from intended send to arrival, of the messages that were due in a span of time."""
        due = self.due
        return [
            at - due[voucher_id]
            for voucher_id, at in list(self.arrived.items())
            if voucher_id in due and since <= due[voucher_id] < until
        ]

    def recent(self, since: float) -> list[float]:
        """Return the seconds from intended send to arrival, of the messages that arrived since a moment."""
        due = self.due
        return [at - due[each] for each, at in list(self.arrived.items()) if at >= since and each in due]


class Books:
    """What passed the observer, by topic and lane."""

    def __init__(self, due: Mapping[Lane, Mapping[str, float]]) -> None:
        self.lanes = {lane: LaneBooks(ids) for lane, ids in due.items()}
        self.produced: Counter[tuple[str, Lane]] = Counter()
        """Messages on each topic, by its plain name, and lane."""
        self.strayed: set[str] = set()
        """Ids that were met in the other lane than they were sent in."""

    def note(self, topic: str, voucher_id: str, lane: Lane, now: float) -> None:
        """Take note of one message on a topic, by its plain name."""
        self.produced[topic, lane] += 1
        if LETTERS.get(voucher_id[:1], lane) is not lane:
            self.strayed.add(voucher_id)
        books = self.lanes[lane]
        if topic.endswith((".quarantine", ".dlq", ".parked")):
            books.aside[voucher_id] = topic
        elif topic in ENDS:
            if voucher_id in books.arrived:
                books.again += 1
            else:
                books.arrived[voucher_id] = now


class Observer:
    """Reads every topic of a run from its beginning, in a thread of its own."""

    def __init__(self, topics: RunTopics, books: Books) -> None:
        self.books = books
        self._topics = topics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self.failure: BaseException | None = None
        """What ended it before its time."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read nothing further."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        consumer = RawConsumer(
            self._topics.client()
            | {
                "group.id": f"{self._topics.prefix}observer",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        try:
            consumer.assign(self._places(consumer))
            while not self._stopping.is_set():
                self._take(consumer)
        except Exception as error:  # noqa: BLE001 - whoever started the observer asks for it
            self.failure = error
        finally:
            consumer.close()

    def _places(self, consumer: RawConsumer) -> list[TopicPartition]:
        known = consumer.list_topics(timeout=10).topics
        return [
            TopicPartition(name, partition, OFFSET_BEGINNING)
            for name in self._topics.all
            for partition in known[name].partitions
        ]

    def _take(self, consumer: RawConsumer) -> None:
        # consume() would wait for a whole batch: one message first, then what is there already.
        first = consumer.poll(POLL_S)
        if first is None:
            return
        batch = [first, *consumer.consume(BATCH, 0)]
        now = time.monotonic()
        for message in batch:
            if message.error() is None:
                self._note(message, now)

    def _note(self, message: RawMessage, now: float) -> None:
        try:
            marked = any(pair[0] == MARK_HEADER for pair in headers_of(message) or ())
        except SystemError:
            # Its header keys are not UTF-8: no message of this chain.
            return
        lane = Lane.SHADOW if marked else Lane.NORMAL
        voucher_id = bytes(message.key() or b"").decode(errors="replace")
        self.books.note(self._topics.plain(message.topic() or ""), voucher_id, lane, now)
