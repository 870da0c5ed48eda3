"""Two shadow processes share a limit by the partitions they read, with no place to share through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shadowstream.lane import Lane
from tests.broker.rig import MARKED, Rig, eventually

if TYPE_CHECKING:
    import shadowstream as ss

pytest_plugins = ["tests.broker.rig"]

RATE, BURST = 40.0, 4


def part_of(worker: ss.Worker, topic: str) -> float:
    """Return the part of the rate that one worker goes by."""
    cursor, _ = worker._running[Lane.SHADOW]
    rate = cursor.gates._stages[topic].rate
    return 0.0 if rate is None else rate._part


def test_two_processes_go_by_as_much_of_a_limit_as_they_read_and_by_all_of_it_when_one_ends(rig: Rig) -> None:
    (topic,) = rig.topics("in", partitions=4)
    rig.begin(topic)
    rule = {"hard": f"{RATE:g}/s", "burst": BURST, "by_partitions": True}
    settings = rig.settings({topic: {}}, rate_limit={f"shadow.{topic}": rule})
    handled: list[float] = []

    def worker() -> ss.Worker:
        made = rig.worker(settings, "shadow")
        made.handles(topic)(lambda _: handled.append(time.monotonic()))
        return made

    for partition in range(4):
        rig.send(topic, [f"s{each}" for each in range(500)], MARKED, partition=partition)
    first, second = worker(), worker()
    with first:
        eventually(lambda: part_of(first, topic) == 1.0, "it reads all there is")
        with second:
            eventually(lambda: (part_of(first, topic), part_of(second, topic)) == (0.5, 0.5), "each reads half")
            began = time.monotonic()
            eventually(lambda: sum(at > began for at in list(handled)) > RATE, "both go on")
            seconds = time.monotonic() - began
            assert sum(at > began for at in handled) <= RATE * seconds + BURST + 2
        eventually(lambda: part_of(first, topic) == 1.0, "the other one has ended")
