"""What the suite of client semantics stands on: the broker in memory, or a real one. The tests cannot tell which."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, Producer

from shadowstream.testing import Broker, Clock, MemoryConsumer, MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

    from containers.kafka import KafkaContainer

POLL_S = 0.05
DEADLINE_S = 30.0
READING = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}


class Ground(Protocol):
    """Where clients come from, and how time passes for them."""

    def topic(self, partitions: int = 1) -> str: ...
    def name(self) -> str: ...
    def consumer(self, group: str, **properties: Any) -> Any: ...
    def producer(self, **properties: Any) -> Any: ...
    def now(self) -> float: ...


class MemoryGround:
    """A fresh broker in memory, on a clock that its clients' polls move."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self._numbers = itertools.count(1)

    def topic(self, partitions: int = 1) -> str:
        name = self.name()
        self.broker.create_topic(name, partitions)
        return name

    def name(self) -> str:
        return f"name-{next(self._numbers)}"

    def consumer(self, group: str, **properties: Any) -> MemoryConsumer:
        return MemoryConsumer({**READING, "group.id": group, **_dotted(properties)}, broker=self.broker)

    def producer(self, **properties: Any) -> MemoryProducer:
        return MemoryProducer(_dotted(properties), broker=self.broker)

    def now(self) -> float:
        return self.clock.monotonic()


class BrokerGround:
    """A real broker, shared with others: the names are this test's own."""

    def __init__(self, kafka: KafkaContainer, unique: Callable[[str], str]) -> None:
        self._kafka = kafka
        self._unique = unique
        self._made: list[Any] = []

    def topic(self, partitions: int = 1) -> str:
        name = self.name()
        self._kafka.create_topics({name: partitions})
        return name

    def name(self) -> str:
        return self._unique("semantics")

    def consumer(self, group: str, **properties: Any) -> Consumer:
        classic = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 100}
        if properties.get("group_protocol") == "consumer":
            classic = {}
        quick = {"bootstrap.servers": self._kafka.bootstrap, "fetch.wait.max.ms": 20, "log_level": 0}
        made = Consumer({**quick, **classic, **READING, "group.id": group, **_dotted(properties)})
        self._made.append(made)
        return made

    def producer(self, **properties: Any) -> Producer:
        quick = {"bootstrap.servers": self._kafka.bootstrap, "linger.ms": 0, "log_level": 0, "error_cb": lambda _: None}
        return Producer({**quick, **_dotted(properties)})

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for consumer in self._made:
            consumer.close()


def _dotted(properties: dict[str, Any]) -> dict[str, Any]:
    return {name if callable(value) else name.replace("_", "."): value for name, value in properties.items()}


def until(ground: Ground, condition: Callable[[], object], *clients: Any, deadline_s: float = DEADLINE_S) -> None:
    """Poll these clients in turn until a condition holds."""
    end = ground.now() + deadline_s
    while not condition():
        assert ground.now() < end, "it never came to that"
        for client in clients:
            client.poll(POLL_S)


def turn(ground: Ground, seconds: float, *clients: Any) -> None:
    """Poll these clients in turn for a while."""
    end = ground.now() + seconds
    while ground.now() < end:
        for client in clients:
            client.poll(POLL_S)


def read(ground: Ground, consumer: Any, count: int, deadline_s: float = DEADLINE_S) -> list[Message]:
    """Return the next messages and errors of one consumer."""
    found: list[Message] = []
    end = ground.now() + deadline_s
    while len(found) < count:
        assert ground.now() < end, f"{len(found)} of {count} came: {[message.value() for message in found]}"
        if (message := consumer.poll(POLL_S)) is not None:
            found.append(message)
    return found


def produce(ground: Ground, topic: str, values: Sequence[str], partition: int = 0) -> None:
    """Put messages into a partition."""
    producer = ground.producer()
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(DEADLINE_S) == 0


class Heard:
    """The changes of one consumer's assignment, as its callbacks heard them."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, list[int]]] = []

    def callbacks(self) -> dict[str, Callable[[Any, Any], None]]:
        def hear(kind: str) -> Callable[[Any, Any], None]:
            return lambda _, partitions: self.changes.append((kind, sorted(each.partition for each in partitions)))

        return {"on_assign": hear("assigned"), "on_revoke": hear("revoked"), "on_lost": hear("lost")}

    def said(self) -> list[tuple[str, list[int]]]:
        """Return the changes that were of any partition."""
        return [change for change in self.changes if change[1]]


def numbers(consumer: Any) -> list[int]:
    """Return the partitions that a consumer reads."""
    return sorted(each.partition for each in consumer.assignment())
