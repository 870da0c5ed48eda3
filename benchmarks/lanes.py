"""The processes of (c): a worker with a stuck shadow handler, a plain consumer, the normal load, the shadow flood.

A normal message's value begins with its intended send time, in nanoseconds of the machine's monotonic clock, which all
processes share. Its latency is counted from there, whenever it was really sent: an open loop, so that a system that
falls behind cannot slow down its own load. Intended time 0 is a greeting that only says who is ready.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, Producer

import shadowstream as ss
from benchmarks.figures import quantile
from benchmarks.ground import CLIENT, FOREIGN, PAYLOAD, end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Valued(Protocol):
        """A message of either client."""

        def value(self) -> bytes | None:
            """Return the payload."""
            ...


__all__ = ["RUN", "SECOND", "STAMP", "Recorder", "announced", "read_samples"]

RUN: Final = ss.Mark(run="bench")
SECOND: Final = 1_000_000_000
STAMP: Final = struct.Struct("<q")
SAMPLE: Final = struct.Struct("<qq")
TICK_S: Final = 0.01
SHARED_PER_S: Final = 1500.0
"""What the plain consumer's one limiter admits: three times the normal load."""


@dataclass(frozen=True, slots=True)
class Span:
    """What one generator sends."""

    after_s: float
    """From the beginning of the run."""
    seconds: float
    rate: int
    """Messages a second."""
    partitions: int = 1
    """Which get a message each in turn."""


class Recorder:
    """The normal handler of both systems: notes when each message was handled, and writes all of it at exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples: list[tuple[int, int]] = []
        atexit.register(self._write)

    def handle(self, message: Valued) -> None:
        """Note one normal message."""
        (intended,) = STAMP.unpack_from(message.value() or b"")
        if intended:
            self._samples.append((intended, time.monotonic_ns()))
        else:
            (self._folder / "normal-ready").touch()

    def _write(self) -> None:
        # Every process of the worker comes here, the parent and the shadow lane too.
        if not self._samples:
            return
        packed = b"".join(SAMPLE.pack(*sample) for sample in self._samples)
        # One file for each process: a lane that died and was started again must not hide what its first life saw.
        (self._folder / f"samples-{os.getpid()}").write_bytes(packed)


def read_samples(folder: Path) -> dict[int, int]:
    """Return when each message was handled (the first time), by its intended send time."""
    packed = b"".join(path.read_bytes() for path in folder.glob("samples-*"))
    return dict(sorted(SAMPLE.iter_unpack(packed), reverse=True))


def announced(folder: Path, begin: int) -> None:
    """Tell the generators when to begin."""
    draft = folder / "begin.draft"
    draft.write_text(str(begin), encoding="utf-8")
    # Renamed in one step: a generator must not read half a number.
    draft.rename(folder / "begin")


def told(folder: Path, role: str) -> int:
    """Say that a generator is ready, and wait to be told when to begin."""
    (folder / f"{role}-ready").touch()
    while not (folder / "begin").exists():
        time.sleep(0.01)
    return int((folder / "begin").read_text(encoding="utf-8"))


def worker(settings: ss.Settings, topic: str, folder: Path) -> None:
    """Run both lanes, a process each; the shadow handler never returns from its first message."""
    recorder = Recorder(folder)
    running = ss.Worker(settings, lanes="both")

    @running.handles(topic)
    def handle(message: ss.Message) -> None:
        if ss.is_shadow():
            (folder / "shadow-ready").touch()
            threading.Event().wait()
        recorder.handle(message)

    running.run()


def plain(settings: ss.Settings, topic: str, folder: Path) -> None:
    """Run what people have today: one consumer, one handler, one limiter for every message."""
    recorder = Recorder(folder)
    kafka = settings.normal.kafka
    consumer = Consumer(
        {
            "bootstrap.servers": kafka["bootstrap.servers"],
            "group.id": kafka["group.id"],
            "client.id": "plain",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    admitted = limited(SHARED_PER_S)
    while True:
        first = consumer.poll(0.1)
        for message in (first, *consumer.consume(99, 0)) if first is not None else ():
            if message.error() is None:
                next(admitted)
                headers: Any = message.headers()
                if all(name != settings.mark.header for name, _ in headers or ()):
                    recorder.handle(message)


def limited(rate_per_s: float, burst_s: float = 0.1) -> Iterator[None]:
    """Give a turn so many times a second, sleeping for it; what was not used is kept for ``burst_s`` seconds."""
    due = time.monotonic()
    while True:
        now = time.monotonic()
        due = max(due + 1 / rate_per_s, now - burst_s)
        if due > now:
            time.sleep(due - now)
        yield


def load(settings: ss.Settings, topic: str, folder: Path, plan: Span) -> None:
    """Send the normal messages at their intended times; prints how late the generator itself was."""
    client = Producer({"bootstrap.servers": settings.normal.kafka["bootstrap.servers"], **CLIENT, "linger.ms": 0})
    client.list_topics(topic, timeout=10)
    begin = told(folder, "load") + int(plan.after_s * SECOND)
    late: list[float] = []
    for number, intended in enumerate(range(begin, begin + int(plan.seconds * SECOND), SECOND // plan.rate)):
        if (left := intended - time.monotonic_ns()) > 0:
            time.sleep(left / SECOND)
        value = STAMP.pack(intended) + PAYLOAD[STAMP.size :]
        client.produce(topic, value, partition=number % plan.partitions, headers=FOREIGN)
        late.append((time.monotonic_ns() - intended) / 1e6)
        client.poll(0)
    left_over = client.flush(10)
    figures = {"sent": len(late) - left_over, "late_p99_ms": quantile(late, 0.99), "late_max_ms": max(late)}
    sys.stdout.write(json.dumps(figures) + "\n")


def flood(settings: ss.Settings, topic: str, folder: Path, plan: Span) -> None:
    """Send shadow messages, a hundredth of a second's worth at a time; prints how many a second it managed."""
    # It stands for other machines, so it must not take the processor from those that are measured.
    os.nice(10)
    client = ss.Producer(settings)
    client.list_topics(topic, timeout=10)
    begin = told(folder, "flood") + int(plan.after_s * SECOND)
    share, sent = int(plan.rate * TICK_S), 0
    with ss.entered(RUN):
        for tick in range(int(plan.seconds / TICK_S)):
            due = begin + int(tick * TICK_S * SECOND)
            if (left := due - time.monotonic_ns()) > 0:
                time.sleep(left / SECOND)
            for _ in range(share):
                client.produce(topic, PAYLOAD, headers=FOREIGN)
            sent += share
            client.poll(0)
        sent -= client.flush(20)
    took = (time.monotonic_ns() - begin) / SECOND
    sys.stdout.write(json.dumps({"sent": sent, "per_s": sent / took}) + "\n")


def main(role: str, settings: str, topic: str, folder: str, *rest: str) -> None:
    """Be one of the processes."""
    end_with_parent()
    loaded = ss.load(settings, strict=True)
    path = Path(folder)
    if role in {"load", "flood"}:
        after_s, seconds, *whole = rest
        (load if role == "load" else flood)(loaded, topic, path, Span(float(after_s), float(seconds), *map(int, whole)))
    else:
        (worker if role == "worker" else plain)(loaded, topic, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
