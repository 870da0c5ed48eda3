"""(i) The longest time in which no normal message is handled while a second member joins and leaves.

One member of the normal group runs, with a steady load over four partitions; a second one joins, and is told to stop
some seconds later. The gap of a partition is the longest time within the window in which none of its messages was
handled by either; the figure is that of the worst partition, beside it the longest time in which nothing at all was
handled. For each way of rebalancing: eager, cooperative-sticky, and KIP-848 (``group.protocol: consumer``), whose
members hear of a change with their heartbeat, every five seconds unless the broker says otherwise.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import shadowstream as ss
from benchmarks.child import end_with_parent
from benchmarks.figures import Row, longest_gap, spread
from benchmarks.ground import outcome, say, started
from benchmarks.lanes import SECOND, STAMP, Recorder, announced, read_samples
from benchmarks.latency import HEADSTART_S, wait_for

if TYPE_CHECKING:
    from benchmarks.ground import Ground
    from benchmarks.options import Options

__all__ = ["measured"]

PARTITIONS: Final = 4
RATE: Final = 500
GRACE_S: Final = 1.0
PROTOCOLS: Final[dict[str, dict[str, object]]] = {
    "eager": {"partition.assignment.strategy": "range,roundrobin"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "kip-848": {"group.protocol": "consumer"},
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """When what happens, in seconds from the beginning of the load."""

    joins: float
    leaves: float
    ends: float


def measured(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the table, and everything measured."""
    times = Timeline(1.0, 8.0, 15.0) if options.quick else Timeline(2.0, 12.0, 22.0)
    runs = {
        protocol: [run(ground, protocol, times, number) for number in range(options.turns(3))] for protocol in PROTOCOLS
    }
    rows = []
    for protocol, found in runs.items():
        for window in ("join", "leave"):
            for what, name in (("partition_ms", "worst partition"), ("any_ms", "any")):
                gaps = spread([each[window][what] for each in found])
                rows.append(Row.of(f"{protocol}: gap at {window}, {name}", gaps, "ms"))
        rows.append(Row(f"{protocol}: not handled", sum(each["missing"] for each in found), "messages", 0, "at most"))
    return rows, {"about": __doc__, "rate_per_s": RATE, "partitions": PARTITIONS, "timeline": times, "runs": runs}


def run(ground: Ground, protocol: str, times: Timeline, number: int) -> dict[str, Any]:
    """Let a second member join and leave once."""
    name = f"rebalance-{protocol}-{number}"
    ground.topic(name, partitions=PARTITIONS)
    settings = ground.settings(name, name, kafka=PROTOCOLS[protocol])
    folder = ground.folder / name
    folder.mkdir()
    greet(ground, settings, name)
    plan = (0.0, times.ends, RATE, PARTITIONS)
    with (
        started("benchmarks.rebalance", settings, name, folder) as first,
        started("benchmarks.lanes", "load", settings, name, folder, *plan, capture=True) as load,
    ):
        wait_for(folder / "normal-ready", first)
        wait_for(folder / "load-ready", load)
        begin = time.monotonic_ns() + int(HEADSTART_S * SECOND)
        announced(folder, begin)
        until(begin, times.joins)
        with started("benchmarks.rebalance", settings, name, folder):
            until(begin, times.leaves)
        sent = outcome(load)
        time.sleep(GRACE_S)
    ground.drop(name)
    return {**of_samples(read_samples(folder), begin, times), "load": sent, **told(protocol, number)}


def told(protocol: str, number: int) -> dict[str, Any]:
    """Say that a run is over."""
    say(f"(i) {protocol} {number + 1}: a member joined and left")
    return {"protocol": protocol}


def until(begin: int, after_s: float) -> None:
    """Wait for a moment of the timeline."""
    time.sleep(max(0.0, (begin - time.monotonic_ns()) / SECOND + after_s))


def greet(ground: Ground, settings: Path, topic: str) -> None:
    """Put a message at the beginning of each partition, so that the first member can say that it runs."""
    client = ss.Producer(ground.load(settings))
    for partition in range(PARTITIONS):
        client.produce(topic, STAMP.pack(0), partition=partition)
    client.flush(15)


def of_samples(samples: dict[int, int], begin: int, times: Timeline) -> dict[str, Any]:
    """Return the gaps of both windows in milliseconds, and how many messages were not handled."""
    schedule = range(begin, begin + int(times.ends * SECOND), SECOND // RATE)
    handled: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for number, intended in enumerate(schedule):
        if intended in samples:
            handled[number % PARTITIONS].append(samples[intended])
    everywhere = [each for partition in handled for each in partition]
    windows = {"join": (times.joins, times.leaves), "leave": (times.leaves, times.ends)}
    found: dict[str, Any] = {"missing": len(schedule) - len(everywhere)}
    for window, edges in windows.items():
        first, last = (begin + int(edge * SECOND) for edge in edges)
        gaps = [longest_gap(partition, first, last) / 1e6 for partition in handled]
        found[window] = {
            "partition_ms": max(gaps),
            "any_ms": longest_gap(everywhere, first, last) / 1e6,
            "each_ms": gaps,
        }
    return found


def main(settings: str, topic: str, folder: str) -> None:
    """Be one member."""
    end_with_parent()
    recorder = Recorder(Path(folder))
    worker = ss.Worker(ss.load(settings, strict=True), lanes="normal")
    worker.handles(topic)(recorder.handle)
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
