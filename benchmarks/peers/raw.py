"""The client alone: poll, drain what is there, read headers, handle; it stores and commits offsets by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer

from benchmarks.peers.task import BACKOFF, Report, Stopwatch, Task, report, synchronous, told
from benchmarks.throughput import drained

if TYPE_CHECKING:
    from confluent_kafka import Message


def consume(task: Task) -> Report:
    """Consume until the watch says that it is done."""
    running = True

    def done() -> None:
        nonlocal running
        running = False

    watch = Stopwatch(task, done)
    handle = synchronous(task, watch.ticker())

    def handled(message: Message) -> None:
        handle(message.value())

    properties = {
        "bootstrap.servers": task.bootstrap,
        "group.id": task.group,
        "client.id": "raw",
        "auto.offset.reset": "earliest",
        **BACKOFF,
    }
    consumer = Consumer(properties)
    consumer.subscribe([task.topic])
    drained(consumer, handled, lambda: running)
    consumer.close()
    return watch.report()


if __name__ == "__main__":
    report(consume(told()), "confluent-kafka")
