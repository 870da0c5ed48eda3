"""(a) The worker's normal lane against a raw consume loop that also reads headers, on the same topic.

Both sides call the same handler: it counts its calls, reads the clock at the first and at the last one, and looks at
nothing of the message. A rate is the messages of the topic by the time from the first call to the last. The raw loop
is what people write: poll, then drain up to 999, look at ``error()`` and ``headers()``, call the handler; the client
stores and commits offsets by itself. Both drain prefetched messages as fast as they can.

``stepping over``: only the first and the last message are normal, all between are signed shadow messages, which the
normal lane reads and leaves alone while the raw loop calls its handler for every one of them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal

from confluent_kafka import Consumer, Producer

import shadowstream as ss
from benchmarks.figures import Paired, Row, paired
from benchmarks.ground import CLIENT, FOREIGN, child, end_with_parent, produced, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.ground import Ground

__all__ = ["measured"]

PAYLOAD: Final = b"v" * 200
BATCH: Final = 1000
Side = Literal["raw", "ours"]


class Stopwatch:
    """The no-op handler of both sides: counts its calls, and times the first to the last."""

    def __init__(self, calls: int, done: Callable[[], object]) -> None:
        self._calls = calls
        self._done = done
        self.seconds = 0.0

    def handler(self) -> Callable[[object], None]:
        """Return the function to call with each message."""
        calls, began, seen = self._calls, 0.0, 0

        def handle(_message: object) -> None:
            nonlocal began, seen
            if not seen:
                began = perf_counter()
            seen += 1
            if seen == calls:
                self.seconds = perf_counter() - began
                self._done()

        return handle


def raw(settings: ss.Settings, topic: str, calls: int) -> float:
    """Drain the topic with a raw loop; returns the seconds from the first handled message to the last."""
    kafka = settings.normal.kafka
    consumer = Consumer(
        {
            "bootstrap.servers": kafka["bootstrap.servers"],
            "group.id": kafka["group.id"],
            "client.id": "raw",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    running = True

    def done() -> None:
        nonlocal running
        running = False

    watch = Stopwatch(calls, done)
    handle = watch.handler()
    while running:
        first = consumer.poll(0.1)
        if first is None:
            continue
        for message in (first, *consumer.consume(BATCH - 1, 0)):
            if message.error() is None:
                message.headers()
                handle(message)
    consumer.close()
    return watch.seconds


def ours(settings: ss.Settings, topic: str, calls: int) -> float:
    """Drain the topic with a worker's normal lane, as users run it; returns the same seconds."""
    worker = ss.Worker(settings, lanes="normal")
    watch = Stopwatch(calls, lambda: os.kill(os.getpid(), signal.SIGTERM))
    worker.handles(topic)(watch.handler())
    worker.run()
    return watch.seconds


def filled(ground: Ground, topic: str, count: int, lane: ss.Lane) -> None:
    """Write messages of 200 bytes with two foreign headers; the first and the last are normal in any case."""
    say(f"(a) writing {count} messages of the {lane} lane")
    settings = ss.load(ground.settings(f"fill-{topic}", topic), strict=True)
    client = Producer({"bootstrap.servers": ground.broker.bootstrap, **CLIENT})
    header = [ss.Producer(settings).stamp] if False else []  # placeholder
