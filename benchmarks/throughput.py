"""(a) The worker's normal lane against a raw consume loop that also reads headers, on the same topic.

Both sides call the same handler: it counts its calls, reads the clock at the first and at the last one, and looks at
nothing of the message. A rate is the messages of the topic by the time from the first call to the last. The raw loop
is what people write: poll, then drain up to 999, look at ``error()`` and ``headers()``, call the handler; the client
stores and commits offsets by itself. Both sides fetch with the same properties, so that neither wins by its settings.
``client's defaults`` is the raw loop without them: its fetcher then stands still for a second whenever its queue was
full, which the worker's defaults repair. ``with metrics`` is the worker with the Prometheus hook listening.

``stepping over``: only the first and the last message are normal, all between are signed shadow messages, which the
normal lane reads and leaves alone while the raw loop calls its handler for every one of them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final, Literal

from confluent_kafka import Consumer

import shadowstream as ss
from benchmarks.figures import Paired, Row, paired
from benchmarks.ground import FOREIGN, child, end_with_parent, produced, say
from shadowstream.kafka.clients import FETCHING
from shadowstream.metrics import PrometheusHook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message

    from benchmarks.ground import Ground

__all__ = ["drained", "filled", "measured"]

BATCH: Final = 1000
Side = Literal["raw", "default", "ours", "metered"]


@dataclass(frozen=True, slots=True)
class Compared:
    """The worker against the raw loop, by two clocks."""

    wall: Paired
    cpu: Paired
    """Messages by the processor seconds of all threads: hardly disturbed by what else the machine does."""


class Stopwatch:
    """The no-op handler of both sides: counts its calls, and times the first to the last."""

    def __init__(self, calls: int, done: Callable[[], object]) -> None:
        self._calls = calls
        self._done = done
        self.taken = {"seconds": 0.0, "cpu_s": 0.0}
        """By the wall, and of all the process's threads."""

    def handler(self) -> Callable[[object], None]:
        """Return the function to call with each message."""
        calls, began, burnt, seen = self._calls, 0.0, 0.0, 0

        def handle(_message: object) -> None:
            nonlocal began, burnt, seen
            if not seen:
                began, burnt = perf_counter(), process_time()
            seen += 1
            if seen == calls:
                self.taken = {"seconds": perf_counter() - began, "cpu_s": process_time() - burnt}
                self._done()

        return handle


def raw(settings: ss.Settings, topic: str, calls: int, properties: Mapping[str, int]) -> dict[str, float]:
    """Drain the topic with a raw loop; returns what it took from the first handled message to the last."""
    kafka = settings.normal.kafka
    consumer = Consumer(
        {
            "bootstrap.servers": kafka["bootstrap.servers"],
            "group.id": kafka["group.id"],
            "client.id": "raw",
            "auto.offset.reset": "earliest",
            **properties,
        }
    )
    consumer.subscribe([topic])
    running = True

    def done() -> None:
        nonlocal running
        running = False

    watch = Stopwatch(calls, done)
    handle = watch.handler()
    drained(consumer, handle, lambda: running)
    consumer.close()
    return watch.taken


def drained(consumer: Consumer, handle: Callable[[Message], None], running: Callable[[], bool]) -> None:
    """Run the raw loop that people write: poll, then drain up to 999, look at each one's error and headers."""
    while running():
        first = consumer.poll(0.1)
        if first is None:
            continue
        for message in (first, *consumer.consume(BATCH - 1, 0)):
            if message.error() is None:
                message.headers()
                handle(message)


def ours(settings: ss.Settings, topic: str, calls: int, *, metered: bool = False) -> dict[str, float]:
    """Drain the topic with a worker's normal lane, as users run it; returns the same."""
    worker = ss.Worker(settings, lanes="normal", hooks=lambda _: [PrometheusHook()] if metered else ())
    watch = Stopwatch(calls, lambda: os.kill(os.getpid(), signal.SIGTERM))
    worker.handles(topic)(watch.handler())
    worker.run()
    return watch.taken


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


def compared(ground: Ground, topic: str, sides: tuple[Side, Side], count: int, rounds: int, calls: int) -> Compared:
    """Alternate base, other, base, other, ... base, each in a fresh process and a fresh group; in messages a second."""
    base, other = sides
    turns: list[Side] = [base, other] * rounds + [base]
    taken: dict[str, list[dict[str, float]]] = {base: [], other: []}
    for number, each in enumerate(turns):
        settings = ground.settings(f"{topic}-{base}-{other}-{number}", topic)
        wanted = count if each in {"raw", "default"} else calls
        taken[each].append(child("benchmarks.throughput", each, settings, topic, wanted))
        rate = count / taken[each][-1]["seconds"]
        say(f"(a) {topic} {number + 1}/{len(turns)} {each}: {rate:,.0f} messages/s")
    found = {
        clock: paired(*([count / one[clock] for one in taken[name]] for name in sides))
        for clock in ("seconds", "cpu_s")
    }
    return Compared(found["seconds"], found["cpu_s"])


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the rows of the table, and everything measured."""
    count, rounds, fewer = (60_000, 2, 1) if quick else (1_000_000, 7, 3)
    filled(ground, "normal-only", count, shadow=False)
    handled = compared(ground, "normal-only", ("raw", "ours"), count, rounds, count)
    metered = compared(ground, "normal-only", ("raw", "metered"), count, fewer, count)
    default = compared(ground, "normal-only", ("default", "ours"), count, fewer, count)
    ground.drop("normal-only")
    filled(ground, "shadow-only", count, shadow=True)
    stepped = compared(ground, "shadow-only", ("raw", "ours"), count, rounds - 2 * (not quick), 2)
    ground.drop("shadow-only")
    rows = [
        Row.of("worker / raw loop", handled.wall.ratio, "ratio", 0.9),
        Row.noise("raw loop / raw loop (noise)", handled.wall.control),
        Row.of("raw loop", handled.wall.base, "msg/s"),
        Row.of("worker", handled.wall.other, "msg/s"),
        Row.of("worker / raw loop by CPU time", handled.cpu.ratio, "ratio"),
        Row.of("worker with metrics / raw loop", metered.wall.ratio, "ratio"),
        Row.of("worker / raw loop, client's defaults", default.wall.ratio, "ratio"),
        Row.of("raw loop, client's defaults", default.wall.base, "msg/s"),
        Row.of("worker stepping over / raw loop", stepped.wall.ratio, "ratio", 0.95),
        Row.noise("raw loop / raw loop (noise)", stepped.wall.control),
        Row.of("worker stepping over", stepped.wall.other, "msg/s"),
    ]
    method = {"messages": count, "rounds": rounds, "payload_bytes": 200, "foreign_headers": 2, "about": __doc__}
    compared_ = {"handled": handled, "metered": metered, "default": default, "stepped_over": stepped}
    details = {name: asdict(found) for name, found in compared_.items()}
    return rows, {"method": method, **details}


def main(side: str, settings: str, topic: str, calls: str) -> None:
    """Be one side, in this process; prints what it measured as JSON."""
    end_with_parent()
    loaded, count = ss.load(settings, strict=True), int(calls)
    if side in {"raw", "default"}:
        taken = raw(loaded, topic, count, FETCHING if side == "raw" else {})
    else:
        taken = ours(loaded, topic, count, metered=side == "metered")
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
