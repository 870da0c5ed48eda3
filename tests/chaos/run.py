"""One seed, from an empty cluster to its verdict."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from containers.cluster.brokers import KafkaCluster
from shadowstream.kafka.outlets import side_topics
from shadowstream.lane import Lane
from tests.chaos import records
from tests.chaos.faults import Hands
from tests.chaos.fleet import GROUPS, SESSION_S, Fleet, document
from tests.chaos.load import Load, Share, Source
from tests.chaos.oracle import Evidence
from tests.chaos.plan import planned
from tests.chaos.report import Verdict, verdict
from tests.chaos.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.oracle import Stand
    from tests.chaos.plan import Fault

FIRST_S, CALM_S = 60.0, 90.0
QUIET_S = 180.0
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything one seed is."""

    faults: int = 24
    normal: int = 100_000
    shadow: int = 40_000
    members: int = 3
    normal_per_s: float = 1000.0


def say(line: str) -> None:
    """Tell the person who waits, with the time."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
    sys.stdout.flush()


def run(seed: int, size: Size, folder: Path, flaw: str = "") -> Verdict:
    """Run one seed; leaves its journals and logs in the folder."""
    began = time.monotonic()
    plan = planned(seed, size.faults)
    say(str(plan))
    with KafkaCluster() as cluster:
        ground = Ground(seed, size, cluster, folder, flaw)
        try:
            ground.begin(plan.protocol)
            ground.break_things(plan.cluster, plan.workers)
            ground.stop_calmly()
            ground.finish()
        finally:
            ground.fleet.kill_all()
        say("reading what lies in the log")
        evidence = ground.evidence()
        ground.witness.close()
    keep(evidence, folder)
    judged = verdict(plan, ground.hands, evidence, time.monotonic() - began)
    for violation in judged.violations:
        say(f"DOES NOT HOLD  {violation}")
    return judged


def keep(evidence: Evidence, folder: Path) -> None:
    """Write down what Kafka said, beside the journals, for whoever looks for the cause."""
    log = [[*each.place, each.offset, each.key.decode(), str(each.order)] for each in evidence.log]
    commits = [[each.at_ns, each.lane, *each.place, each.position] for each in evidence.commits]
    (folder / "kafka.json").write_text(json.dumps({"log": log, "commits": commits}))


class Ground:
    """Everything that one seed runs on."""

    def __init__(self, seed: int, size: Size, cluster: KafkaCluster, folder: Path, flaw: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self._size = size
        self._calm: list[Stand] = []
        self._final: list[Stand] = []
        self.sources = [
            Source("chaos.plain", "chaos.plain", 6),
            Source("chaos.keyed", "chaos.keyed", 4),
            Source("chaos.apart", "shadow.chaos.apart", 2),
        ]
        shadow_per_s = size.normal_per_s * size.shadow / size.normal
        shares = [Share("n", size.normal, size.normal_per_s), Share("s", size.shadow, shadow_per_s)]
        self.load = Load(cluster.bootstrap, self.sources, shares, seed)
        self.fleet = Fleet(folder, flaw)
        self.witness = Witness(cluster, self.sources)
        self.hands = Hands(cluster, self.fleet, self.load, folder, say)

    def begin(self, protocol: str) -> None:
        """Make the topics, start the members, and the load once they have begun."""
        partitions = {each.topic: each.partitions for each in self.sources}
        partitions |= {each.shadow_topic: 2 for each in self.sources if each.shadow_topic != each.topic}
        aside = {topic for each in self.sources for lane in Lane for topic in side_topics(each.topic, lane).values()}
        self._cluster.create_topics(partitions | dict.fromkeys(aside, 2))
        self.witness.begin()
        self.fleet.prepare(document(self._cluster.bootstrap, protocol, self.sources), self._size.members)
        self.load.start()
        self._until(self._begun, FIRST_S, "both lanes have begun")
        say("both lanes have begun")

    def break_things(self, *tracks: tuple[Fault, ...]) -> None:
        """Do every fault, the tracks side by side."""
        threads = [threading.Thread(target=self._track, args=[track], name="faults") for track in tracks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (self._folder / records.RELEASED).touch()
        self._cluster.proxy.healed()
        self._cluster.wait_in_step()

    def _track(self, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            self.hands.do(fault)

    def stop_calmly(self) -> None:
        """Stop all members in order under load, once what dead ones had handled is handled and committed again."""
        self._all_started()
        # Whoever got no answer while the faults went on may still lose its partitions, with what is finished in them.
        decided = time.monotonic() + SESSION_S
        self._until(lambda: time.monotonic() > decided, CALM_S, "who is still a member is decided")
        ends = self.witness.ends({each.topic for each in self.sources} | {each.shadow_topic for each in self.sources})
        self._until(lambda: self._passed(ends), CALM_S, "what was there when the faults ended is committed")
        self.load.rest()
        self._until(self._under_load, CALM_S, "the rest of the load is being handled")
        self.fleet.all_left()
        self._calm = [self.witness.surely(lane) for lane in GROUPS]
        say("stopped in order under load")
        self._all_started()

    def finish(self) -> None:
        """Let the load end and everything be handled, and stop all members in order."""
        self.load.ended()
        say(f"all is sent: {len(self.load.sent)}, not acknowledged: {len(self.load.sent) - len(self.load.acked)}")
        self._until(lambda: not self.witness.behind(), QUIET_S, "everything is committed")
        self.fleet.all_left()
        self._final = [self.witness.surely(lane) for lane in GROUPS]

    def _begun(self) -> bool:
        return all(any(self.witness.surely(lane).positions.values()) for lane in GROUPS)

    def _all_started(self) -> None:
        self.fleet.all_started()
        self._until(lambda: all(each.lane(lane) for each in self.fleet.members for lane in Lane), FIRST_S, "all run")

    def _under_load(self) -> bool:
        return all(share.sent >= share.steady + (share.total - share.steady) // 4 for share in self.load.shares)

    def _passed(self, ends: dict[tuple[str, int], int]) -> bool:
        stands = {lane: self.witness.surely(lane).positions for lane in GROUPS}
        return all(
            stands[lane].get(place, 0) >= end
            for place, end in ends.items()
            for lane in GROUPS
            if self.witness.reads(lane, place[0])
        )

    def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for a state of the whole; where it never comes that is a finding, and the run goes on to its verdict."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                say(f"NOT within {seconds:g} s: {what}; behind: {', '.join(self.witness.behind())}")
                for group in GROUPS.values():
                    for member in self._cluster.members(group):
                        say(f"group {group}: {member}")
                self.fleet.troubles.append(f"not within {seconds:g} s: {what}")
                return
            time.sleep(LOOK_S)

    def evidence(self) -> Evidence:
        """Gather what is judged."""
        return Evidence(
            log=self.witness.log(),
            acked=self.load.acked,
            journals=records.read(self._folder / records.JOURNALS),
            copies=self.witness.copies(),
            commits=self.witness.commits(),
            calm_stops=self._calm,
            final=self._final,
            keyed=frozenset({self.sources[1].topic}),
            parking=frozenset({self.sources[1].topic}),
            troubles=[*self.fleet.troubles, *self.fleet.died()],
        )
