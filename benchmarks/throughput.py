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
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal

from confluent_kafka import Consumer

import shadowstream as ss
from benchmarks.figures import Paired, Row, paired
from benchmarks.ground import FOREIGN, child, end_with_parent, produced, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.ground import Ground

__all__ = ["measured"]

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


def filled(ground: Ground, topic: str, count: int, *, shadow: bool) -> None:
    """Write the topic's messages, each with two foreign headers; the first and the last are normal in any case."""
    say(f"(a) writing {count} {'shadow' if shadow else 'normal'} messages")
    client = ss.Producer(ground.load(ground.settings(f"fill-{topic}", ground.topic(topic))))
    produced(client, topic, FOREIGN, 1)
    with ss.entered(ss.Mark(run="bench") if shadow else None):
        produced(client, topic, FOREIGN, count - 2)
    produced(client, topic, FOREIGN, 1)
    if (found := ground.count(topic)) != count:
        raise RuntimeError(f"topic {topic} holds {found} messages, not {count}")


def compared(ground: Ground, topic: str, count: int, rounds: int, calls: int) -> Paired:
    """Alternate raw, ours, raw, ours, ... raw, each in a fresh process and a fresh group; in messages per second."""
    pair: list[Side] = ["raw", "ours"]
    sides = [*pair * rounds, "raw"]
    rates: dict[Side, list[float]] = {"raw": [], "ours": []}
    for number, side in enumerate(sides):
        settings = ground.settings(f"{topic}-{number}", topic)
        expected = count if side == "raw" else calls
        seconds = child("benchmarks.throughput", side, settings, topic, expected)["seconds"]
        rates[side].append(count / seconds)
        say(f"(a) {topic} {number + 1}/{len(sides)} {side}: {count / seconds:,.0f} messages/s")
    return paired(rates["raw"], rates["ours"])


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the rows of the table, and everything measured."""
    count, rounds = (60_000, 2) if quick else (400_000, 7)
    filled(ground, "normal-only", count, shadow=False)
    handled = compared(ground, "normal-only", count, rounds, count)
    ground.drop("normal-only")
    filled(ground, "shadow-only", count, shadow=True)
    stepped = compared(ground, "shadow-only", count, rounds, 2)
    ground.drop("shadow-only")
    rows = [
        Row.of("worker / raw loop", handled.ratio, "ratio", 0.8),
        Row.noise("raw loop / raw loop (noise)", handled.control),
        Row.of("raw loop", handled.base, "msg/s"),
        Row.of("worker", handled.other, "msg/s"),
        Row.of("worker stepping over / raw loop", stepped.ratio, "ratio"),
        Row.noise("raw loop / raw loop (noise)", stepped.control),
        Row.of("worker stepping over", stepped.other, "msg/s"),
    ]
    method = {"messages": count, "rounds": rounds, "payload_bytes": 200, "foreign_headers": 2, "about": __doc__}
    return rows, {"method": method, "handled": asdict(handled), "stepped_over": asdict(stepped)}


def main(side: str, settings: str, topic: str, calls: str) -> None:
    """Be one side, in this process; prints what it measured as JSON."""
    end_with_parent()
    run = raw if side == "raw" else ours
    seconds = run(ss.load(settings, strict=True), topic, int(calls))
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
