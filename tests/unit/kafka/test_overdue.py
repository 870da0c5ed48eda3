"""Calls of sync handlers that outlive their timeout: said, counted, and held against nobody else."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage

from shadowstream.config import BreakerRule, Order, TopicSettings
from shadowstream.events import Event, Listeners, Overdue, OverdueCalls
from shadowstream.gate import OpenGate, Ticket, Verdict
from shadowstream.gate.chain import Chain, Rules, Stages
from shadowstream.headers import MarkReader
from shadowstream.kafka.clients import Throttle
from shadowstream.kafka.clock import Clock
from shadowstream.kafka.engine import Binding, Engine
from shadowstream.kafka.engine.overdue import Watch
from shadowstream.kafka.strands import Threads
from shadowstream.lane import Lane
from shadowstream.testing import Clock as VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shadowstream.kafka.message import Message

DEADLINE_S = 10.0


class Exits:
    """Outlets that are never used."""

    def serve(self) -> None: ...


@dataclass
class Rig:
    """Two threads for one topic with a timeout of five seconds, on a clock that the test moves."""

    time: VirtualClock = field(default_factory=VirtualClock)
    events: list[Event] = field(default_factory=list)
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    door: threading.Event = field(default_factory=threading.Event)
    inside: threading.Event = field(default_factory=threading.Event)
    crew: Any = None

    def on(self, event: Event) -> None:
        self.events.append(event)

    def start(self, handler: Callable[[Message], object], gate: Any = None, lane: Lane = Lane.NORMAL) -> Engine:
        topic = TopicSettings("t", "t", order=Order.KEY, concurrency=2, retries=0)
        clock = Clock(self.time.monotonic, self.time.time)
        binding = Binding(
            lane, topic, "c", handler, lambda: gate or OpenGate(), shared=True, timeout_s=5.0, clock=clock
        )
        engine = Engine(binding, MarkReader(), Exits(), Listeners([self]))  # type: ignore[arg-type]
        self.crew = Threads(engine, lambda _: self.done.release(), threading.Event())
        return engine

    def put(self, *keys: bytes, headers: Any = None) -> None:
        raw = [
            RawMessage(topic="t", partition=3, offset=40 + n, key=key, value=b"", headers=headers)
            for n, key in enumerate(keys)
        ]
        self.crew.put(self.crew.pieces(3, raw))

    def stick(self, message: Message) -> None:
        if message.key() == b"stuck":
            self.inside.set()
            self.door.wait(DEADLINE_S)

    def facts(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, Overdue | OverdueCalls)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.door.set()
    rig.crew.end()


@pytest.mark.parametrize("lane", list(Lane))
def test_a_stuck_handler_is_announced_once_at_its_deadline_and_other_keys_go_on(
    rig: Rig, lane: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    engine = rig.start(rig.stick, lane=lane)
    rig.put(b"stuck", b"other", headers=[("x-shadow", b"1;run=r")] if lane is Lane.SHADOW else None)
    assert rig.inside.wait(DEADLINE_S)
    assert rig.done.acquire(timeout=DEADLINE_S), "the other key is carried"
    rig.time.advance(4.9)
    engine.serve()
    assert rig.facts() == []
    assert caplog.records == []
    for _ in range(50):
        rig.time.advance(1.0)
        engine.serve()
    assert rig.facts() == [OverdueCalls(lane, "t", 1), Overdue(lane, "t", "c", 3, 40)][::-1]
    (line,) = caplog.messages
    assert line.startswith(f"handler_overdue lane={lane} topic=t command=c timeout_s=5 under_way=1 messages=t[3]@40:")
    rig.door.set()
    assert rig.done.acquire(timeout=DEADLINE_S)
    engine.serve()
    assert rig.facts()[2:] == [OverdueCalls(lane, "t", 0)], "the gauge falls when the call returns"


def test_a_call_that_ends_in_time_is_never_announced(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    engine = rig.start(lambda _: None)
    rig.put(b"a", b"b", b"c")
    for _ in range(3):
        assert rig.done.acquire(timeout=DEADLINE_S)
    rig.time.advance(60.0)
    engine.serve()
    assert rig.facts() == []
    assert caplog.records == []


def test_a_call_that_never_returns_has_failed_at_the_gate_at_its_deadline(rig: Rig) -> None:
    rule = BreakerRule(failure_rate=0.5, window=1, min_calls=1, open_for_s=1.0, half_open=1, max_concurrent=1)
    stages = Stages(Lane.NORMAL, "c", Rules(None, rule), Listeners())
    gate = Chain(stages, Verdict.WAIT)
    engine = rig.start(rig.stick, gate)
    rig.put(b"stuck")
    assert rig.inside.wait(DEADLINE_S)
    assert gate.enter(rig.time.monotonic()).by == "cap"
    rig.time.advance(5.0)
    engine.serve()
    assert gate.enter(rig.time.monotonic()).by == "breaker", "its slot is free, and it counts as a failure"
    rig.time.advance(1.0)
    assert gate.enter(rig.time.monotonic()).admitted, "half-open lets its one trial in"
    rig.door.set()
    assert rig.done.acquire(timeout=DEADLINE_S)
    assert stages.cap.in_flight == 1, "what returns late gives back nothing twice"


def watch_of(rig: Rig) -> Watch:
    binding = Binding(Lane.NORMAL, TopicSettings("t", "t"), "c", print, OpenGate, shared=True)
    return Watch(binding, 1.0, Listeners([rig]))


def test_many_overdue_calls_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    watch = watch_of(rig)
    for number in range(25):
        watch.begun(_Named(number), OpenGate(), Ticket(), 0.0)  # type: ignore[arg-type]
        watch.look(1.0 + number)
    assert len(caplog.records) == 1, "one line each ten seconds"
    watch._throttle = Throttle(logging.getLogger("shadowstream.kafka.engine").warning, 0.0)
    watch.look(30.0)
    watch.look(31.0)
    first, second = caplog.messages
    assert "messages=m0:" in first
    assert "messages=m1,m2,m3,m4,m5,m6,m7,m8,m9,m10 and 14 more:" in second, "each is told once"
    assert sum(isinstance(event, Overdue) for event in rig.events) == 25


class _Named(list[Any]):
    """A batch of one message with a name."""

    def __init__(self, number: int) -> None:
        super().__init__([self])
        self._number = number
        self.raw = RawMessage(topic="t", partition=0, offset=number)

    def __str__(self) -> str:
        return f"m{self._number}"
