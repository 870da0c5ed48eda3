"""What only the consumer in memory lets a test bring about on purpose."""

from __future__ import annotations

from typing import Any

from shadowstream.testing import Broker, Clock, MemoryConsumer


def member(broker: Broker, **callbacks: Any) -> MemoryConsumer:
    properties = {"group.id": "g", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = MemoryConsumer(properties, broker=broker)
    consumer.subscribe(["in"], **callbacks)
    return consumer


def test_a_batch_may_hold_messages_of_a_partition_that_was_taken_away_meanwhile() -> None:
    broker = Broker(Clock())
    broker.create_topic("in", 2)
    taken: list[int] = []
    first = member(broker, on_revoke=lambda _, places: taken.extend(each.partition for each in places))
    while not first.assignment():
        first.poll(0.1)
    broker.append("in", b"0", partition=0)
    broker.append("in", b"1", partition=1)

    member(broker).poll(0)
    batch = first.consume(10, 0)

    assert sorted(taken) == [0, 1]
    assert sorted(message.partition() for message in batch) == [0, 1]
