"""The plan of one seed: which faults, in which order, for how long, against whom.

Two tracks run side by side, one against brokers and links and one against workers; within a track faults follow one
another, so that a broker always has two others while it is down. The same seed always gives the same plan; what the
threads of twelve processes make of it is theirs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
PROTOCOLS = ("eager", "cooperative", "kip-848")

# How often each is chosen, and the shortest and longest time it lasts in seconds.
CLUSTER_FAULTS = {
    "broker_killed": (3, 1.0, 4.0),
    "broker_frozen": (3, 2.0, 9.0),
    "broker_shut_down": (1, 0.5, 2.0),
    "coordinator_killed": (2, 1.0, 3.0),
    "coordinator_frozen": (1, 2.0, 7.0),
    "coordinator_cut": (3, 0.5, 4.0),
    "answers_lost": (2, 0.5, 3.0),
    "link_cut": (3, 0.5, 5.0),
    "link_silent": (2, 1.0, 6.0),
    "link_torn": (2, 0.5, 3.0),
    "link_truncated": (2, 0.5, 3.0),
    "link_slow": (2, 2.0, 5.0),
    "link_narrow": (1, 2.0, 5.0),
    "link_closing_slowly": (1, 1.0, 3.0),
    "all_links_cut": (2, 0.5, 3.0),
    "all_links_slow": (1, 2.0, 5.0),
}
WORKER_FAULTS = {
    "lane_killed": (4, 0.2, 1.0),
    "member_killed": (2, 0.2, 2.0),
    "supervisor_killed": (1, 0.2, 2.0),
    "member_stopped": (3, 0.2, 2.0),
    "member_stopped_at_once": (1, 0.2, 1.0),
    "lane_frozen": (3, 1.0, 9.0),
    "member_joined": (3, 1.0, 4.0),
    "storm": (2, 5.0, 9.0),
    "partitions_added": (1, 0.0, 0.5),
    "normal_hangs": (1, 1.0, 4.0),
    "shadow_hangs": (2, 1.0, 4.0),
    "fat_messages": (1, 0.5, 1.0),
    "shadow_flood": (1, 1.0, 2.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to do to the system."""

    kind: str
    rest_s: float
    """Before it, so that there is something to break again."""
    lasting_s: float
    pick: float
    """From 0 to 1: which broker, member, lane or way of it."""

    def one_of(self, choices: list[T]) -> T:
        """Give the choice that the pick falls on."""
        return choices[int(self.pick * len(choices)) % len(choices)]

    def __str__(self) -> str:
        return f"{self.kind} after {self.rest_s:.1f} s for {self.lasting_s:.1f} s (pick {self.pick:.3f})"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a seed decides."""

    seed: int
    protocol: str
    cluster: tuple[Fault, ...]
    workers: tuple[Fault, ...]

    def __str__(self) -> str:
        lines = [f"plan of seed {self.seed}: {self.protocol}"]
        for name, track in (("cluster", self.cluster), ("workers", self.workers)):
            lines += [f"  {name} {number:2}: {fault}" for number, fault in enumerate(track, 1)]
        return "\n".join(lines)


def planned(seed: int, faults: int) -> Plan:
    """Give the plan of a seed with so many faults, half of them on each track."""
    chance = random.Random(seed)
    cluster = _track(chance, CLUSTER_FAULTS, faults // 2)
    workers = _track(chance, WORKER_FAULTS, faults - faults // 2)
    return Plan(seed, PROTOCOLS[seed % len(PROTOCOLS)], cluster, workers)


def _track(chance: random.Random, table: dict[str, tuple[int, float, float]], count: int) -> tuple[Fault, ...]:
    kinds = chance.choices(list(table), [weight for weight, _, _ in table.values()], k=count)
    return tuple(
        Fault(kind, chance.uniform(0.5, 2.0), chance.uniform(table[kind][1], table[kind][2]), chance.random())
        for kind in kinds
    )
