"""A history of one service in both lanes: rules that Hypothesis chooses from, and what must hold in between."""

from __future__ import annotations

import json
import logging
import sys
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase
from hypothesis import settings as run_with
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import shadowstream as ss
from shadowstream.errors import ConfigError
from shadowstream.kafka.worker.assembly import Registration, assemble
from shadowstream.lane import Lane
from shadowstream.testing import Broker
from tests.unit.simulation.member import Member, World
from tests.unit.simulation.oracle import BURST, COPIES, HEADER, IN, OUT, BrokenLawError, Oracle, Sent
from tests.unit.simulation.stage import Stage, StageEvent

if TYPE_CHECKING:
    from shadowstream.testing.log import Headers

PARTITIONS = 3
MEMBERS = 3
STEPS = 30
STATIC = 0.3
STUCK_S = 5.0
"""How long a commit lies with a broker that stands still: shorter than the engine waits before it goes on."""
PROTOCOLS: dict[str, dict[str, str]] = {
    "eager": {},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
ARRIVE_S = {Lane.NORMAL: 200.0, Lane.SHADOW: 400.0}
END_S = 40.0
RATE = {"hard": "5/s", "burst": BURST}
LIMITS: dict[str, dict[str, Any]] = {"none": {}, "shadow": {f"shadow.{IN}": RATE}, "fallback": {IN: RATE}}
"""Which lanes have a limit: none, shadow alone, or both, shadow by falling back to normal's."""
BROKEN = {"shadow": {"kafka": {"group.id": "g"}}}
TROUBLES = ("commits", "answers", "beats", "slow", "stuck", "deliveries", "reports", "down", "cut")
KINDS = ("normal", "normal", "shadow", "shadow", "bare", "bad", "two", "expiring")


@cache
def settings(protocol: str, ways: tuple[str, int], on_limit: str, *, limit: str, broken: bool = False) -> ss.Settings:
    """Return a service's settings; the two lanes share their topic."""
    order, concurrency = ways
    document: dict[str, Any] = {
        "service": "sim",
        "kafka": {"bootstrap.servers": "memory:1", "group.id": "g", **PROTOCOLS[protocol]},
        "mark": {"skew": "0s"},
        "topics": {
            IN: {
                "order": order,
                "concurrency": concurrency,
                "max_messages": 12,
                "backoff": "0.3s",
                "shadow": {"on_limit": on_limit},
            },
            OUT: {},
        },
        "worker": {"drain": "4s", "revoke": "3s", "batch": 8},
        "rate_limit": LIMITS[limit],
        **(BROKEN if broken else {}),
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shadowstream.yaml"
        path.write_text(json.dumps(document))
        return ss.load(path, environ={})


class History(RuleBasedStateMachine):
    """Messages, members, faults and time, in any order."""

    protocol = "eager"

    @initialize(
        seed=st.integers(0, 2**32),
        ways=st.sampled_from([("partition", 1), ("partition", 2), ("key", 3), ("none", 3)]),
        style=st.sampled_from(["plain", "plain", "batch", "by_hand"]),
        on_limit=st.sampled_from(["wait", "park", "shed"]),
        limit=st.sampled_from([*LIMITS]),
        members=st.lists(st.sampled_from(Lane), max_size=4),
    )
    def begin(
        self, seed: int, ways: tuple[str, int], style: str, on_limit: str, limit: str, members: list[Lane]
    ) -> None:
        logging.disable(logging.CRITICAL)
        stage = Stage(seed)
        broker = Broker(stage.clock, pick=lambda ready, _: int(stage.chance.random() * len(ready)))
        for topic, partitions in {IN: PARTITIONS, OUT: 1, **dict.fromkeys(COPIES, 1)}.items():
            broker.create_topic(topic, partitions)
        ours = settings(self.protocol, ways, "wait" if style == "batch" else on_limit, limit=limit)
        release = {lane: StageEvent(stage) for lane in Lane}
        oracle = Oracle(broker, sheds=limit != "none" and on_limit == "shed")
        self.world = World(stage, broker, oracle, ours, release, style)
        self.members: list[Member] = []
        self.number = 0
        self.places = dict.fromkeys(Lane, 0)
        _no_lane_from_wrong_settings(self.protocol)
        for lane in members:
            self.start(lane)

    # What happens

    @rule(
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
        partition=st.integers(0, PARTITIONS - 1),
        key=st.sampled_from([None, b"a", b"b"]),
        acts=st.lists(
            st.sampled_from([["sleep", 0.05], ["sleep", 0.7], ["emit"], ["fail", 1], ["fail", 9]]), max_size=3
        ),
    )
    def send(self, kinds: list[str], partition: int, key: bytes | None, acts: list[list[Any]]) -> None:
        for kind in kinds:
            self._send(kind, partition, key, [act for act in acts if self.world.style != "by_hand" or act != ["emit"]])

    @rule(lane=st.sampled_from(Lane), partition=st.integers(0, PARTITIONS - 1), attempts=st.sampled_from([1, 99]))
    def send_one_that_hangs(self, lane: Lane, partition: int, attempts: int) -> None:
        self.world.oracle.excuses.add("hang")
        self.world.release[lane].clear()
        self._send(lane.value, partition, b"a", [["hang", attempts]])

    @rule(partition=st.integers(0, PARTITIONS - 1), offsets=st.integers(1, 3))
    def leave_a_gap(self, partition: int, offsets: int) -> None:
        self.world.broker.log(IN, partition).skip(offsets)

    @rule(lane=st.sampled_from(Lane))
    def start(self, lane: Lane) -> None:
        if len(self._alive(lane)) < MEMBERS:
            self._start(lane)

    @rule(steps=st.integers(1, 40))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._step()

    @rule(seconds=st.sampled_from([0.3, 2.0, 8.0]))
    def time_passes(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9))
    def stop(self, which: int) -> None:
        self._member(which).stop()

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9))
    def crash(self, which: int) -> None:
        member = self._member(which)
        if member.alive:
            self.world.oracle.excuses.add("crash")
            member.crash()

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9))
    def freeze(self, which: int) -> None:
        self.world.oracle.excuses.add("freeze")
        self._member(which).freeze()

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9), seconds=st.sampled_from([4.0, 9.0, 25.0]))
    def freeze_for_a_while(self, which: int, seconds: float) -> None:
        self.freeze(which)
        self.time_passes(seconds)
        self._member(which).thaw()

    @rule(lane=st.sampled_from(Lane), partition=st.integers(0, PARTITIONS - 1), attempts=st.sampled_from([1, 99]))
    def rebalance_while_a_handler_hangs(self, lane: Lane, partition: int, attempts: int) -> None:
        self.send_one_that_hangs(lane, partition, attempts)
        self.time_passes(2.0)
        self.start(lane)
        self._send(lane.value, partition, b"a", [])
        self.time_passes(8.0)
        self.release()

    @rule()
    def thaw(self) -> None:
        for member in self.members:
            member.thaw()

    @rule()
    def release(self) -> None:
        for event in self.world.release.values():
            event.set()

    @rule(kind=st.sampled_from(TROUBLES))
    def trouble(self, kind: str) -> None:
        faults = self.world.broker.faults
        self.world.oracle.excuses.add(kind)
        if kind == "cut":
            faults.cut_off.update(member.name for member in self.members[-1:])
        elif kind == "slow":
            faults.slow_commits = True
        else:
            {
                "commits": faults.fail_commits,
                "answers": faults.lose_commit_answers,
                "stuck": partial(faults.delay_commits, STUCK_S),
                "beats": faults.lose_heartbeat_answers,
                "deliveries": faults.fail_deliveries,
                "reports": faults.lose_delivery_reports,
                "down": self.world.broker.stop,
            }[kind]()

    @rule()
    def calm(self) -> None:
        self.world.broker.faults.clear()
        self.world.broker.start()

    # What must hold

    @invariant()
    def the_laws_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.oracle.look()
            for member in self.members:
                if member.alive:
                    member.check()

    def teardown(self) -> None:
        """Let everything come to its end, unless a law was broken on the way."""
        if not hasattr(self, "world"):
            return
        try:
            if sys.exception() is None:
                self._come_to_an_end()
        finally:
            self.world.stage.end()
            logging.disable(logging.NOTSET)

    # Inside

    def _come_to_an_end(self) -> None:
        """Let all that was sent be answered for: the shadow lane may hang, and normal arrives all the same."""
        self.calm()
        self.thaw()
        for lane in Lane:
            self.world.release[lane].set()
            self._start(lane)
            self._arrive(lane)
        self._leave()
        self.world.oracle.quiet()

    def _send(self, kind: str, partition: int, key: bytes | None, acts: list[list[Any]]) -> None:
        self.number += 1
        now = self.world.broker.clock.time()
        expires_at = int(now) + 2 if kind == "expiring" else None
        headers = _headers(kind, expires_at)
        value = json.dumps({"id": self.number}).encode()
        offset = self.world.broker.append(IN, value, key, partition=partition, headers=headers)
        marks = [mark for name, mark in headers or () if name == HEADER]
        lane = Lane.SHADOW if marks else Lane.NORMAL
        mark = marks[0] if marks else None
        self.world.oracle.sent[partition, offset] = Sent(
            self.number, lane, partition, offset, key, mark, acts, bad=kind in {"bad", "two"}, expires_at=expires_at
        )

    def _alive(self, lane: Lane) -> list[Member]:
        return [member for member in self.members if member.alive and member.lane is lane]

    def _start(self, lane: Lane) -> None:
        self.places[lane] += 1
        static = self.world.stage.chance.random() < STATIC
        taken = {member.instance for member in self._alive(lane)}
        free = [name for name in (f"{lane}-i{each}" for each in range(MEMBERS + 1)) if name not in taken]
        name = f"{lane}-{self.places[lane]}"
        self.members.append(Member(self.world, lane, name, free[0] if static else None))

    def _member(self, which: int) -> Member:
        return self.members[which % len(self.members)]

    def _step(self) -> bool:
        went = self.world.stage.step()
        self.the_laws_hold()
        return went

    def _until(self, condition: Any, seconds: float) -> bool:
        """Go on until something holds; False when it did not within so many seconds."""
        clock = self.world.broker.clock
        until = clock.monotonic() + seconds
        while not condition():
            if clock.monotonic() >= until or not self.world.stage.step():
                return False
            self.the_laws_hold()
        return True

    def _arrive(self, lane: Lane) -> None:
        oracle = self.world.oracle

        def arrived() -> bool:
            # Whoever ends by itself is started again, as a supervisor does.
            if not self._alive(lane):
                self._start(lane)
            return oracle.arrived(lane)

        if not self._until(arrived, ARRIVE_S[lane]):
            stuck = self.world.broker.stands({Lane.NORMAL: "g", Lane.SHADOW: "g.shadow"}[lane])
            raise BrokenLawError(f"laws 1 and 8: lane {lane} did not arrive: {stuck}, {self.members}")

    def _leave(self) -> None:
        """Stop whoever is left: close() always ends, and the group stands where the handling stands."""
        left = [member for member in self.members if member.alive]
        for member in left:
            member.stop()
        if not self._until(lambda: not any(member.alive for member in left), END_S):
            raise BrokenLawError(f"law 11: {[member for member in left if member.alive]} did not end")


def play(protocol: str, histories: int) -> None:
    """Play so many histories, the same ones each time, and raise what the first one finds that breaks a law."""
    run_state_machine_as_test(
        type(f"History_{protocol}", (History,), {"protocol": protocol}),
        settings=run_with(
            max_examples=histories,
            stateful_step_count=STEPS,
            derandomize=True,
            # No shrinking and no explaining: they take minutes, and a history of thirty steps can be read.
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _headers(kind: str, expires_at: int | None) -> Headers | None:
    return {
        "normal": None,
        "shadow": [("trace", b"1"), (HEADER, b"1;run=fcst-1")],
        "bare": [(HEADER, b"1")],
        "bad": [(HEADER, b"7;run=fcst-1")],
        "two": [(HEADER, b"1;run=fcst-1"), (HEADER, b"1;run=fcst-2")],
        "expiring": [(HEADER, b"1;run=old;exp=%d" % (expires_at or 0))],
    }[kind]


def _no_lane_from_wrong_settings(protocol: str) -> None:
    """Law 7: normal is built, shadow is not."""
    wrong = settings(protocol, ("partition", 1), "wait", limit="none", broken=True)
    for refused in (lambda: wrong.of(Lane.SHADOW), lambda: assemble(wrong, Lane.SHADOW, [_nobody()], _silent())):
        try:
            refused()
        except ConfigError:
            continue
        raise BrokenLawError("law 7: the shadow lane is built although its configuration is wrong")
    if wrong.of(Lane.NORMAL).topics.keys() != {IN, OUT}:
        raise BrokenLawError("law 7: the normal lane's settings suffer from the shadow's")


def _nobody() -> Registration:
    return Registration(IN, IN, print)


def _silent() -> Any:
    return ss.events.Listeners()
