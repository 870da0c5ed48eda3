"""A cursor on a scripted client, whose handler waits at a door that the test holds."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as RawMessage

from shadowstream.config import TopicSettings, WorkerSettings
from shadowstream.events import Event, Listeners
from shadowstream.gate import OpenGate
from shadowstream.headers import MarkReader
from shadowstream.kafka.clock import REAL_CLOCK, Clock
from shadowstream.kafka.cursor import Beginning, Cursor, Parts
from shadowstream.kafka.engine import Binding, Engine
from shadowstream.kafka.strands import Threads
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Client:
    """A consumer's stand-in: gives what was laid out for it and remembers what it was asked to do."""

    def __init__(self) -> None:
        self.log: list[RawMessage] = []
        self.commits: list[dict[tuple[str, int], int]] = []
        self.stands: dict[tuple[str, int], TopicPartition] = {}
        self.stuck = False
        """Whether commits lie with a broker that stands still."""
        self.silent: Callable[[float], None] | None = None
        """Lets the seconds of a question pass that nobody answers."""
        self.commit_error: KafkaError | None = None
        self.answers = True
        self.unanswered: list[list[TopicPartition]] = []
        self.on_commit: Callable[[None, list[TopicPartition]], object] = lambda _, __: None
        self.failing = sys.maxsize
        """How many commits fail with that error."""
        self.paused: set[tuple[str, int]] = set()
        self.assigned: list[list[Any]] = []
        """What was committed by the time of each assignment."""
        self.polls = 0
        self.closed = False
        self.calls: dict[str, Any] = {}

    def answer(self) -> None:
        """Say of all asynchronous commits that they are done."""
        for offsets in self.unanswered:
            self.on_commit(None, offsets)
        self.unanswered.clear()

    def subscribe(self, topics: list[str], **calls: Any) -> None:
        self.calls = calls

    def poll(self, timeout: float) -> RawMessage | None:
        self.polls += 1
        if self.answers:
            self.answer()
        return self.log.pop(0) if self.log else None

    def consume(self, number: int, timeout: float) -> list[RawMessage]:
        batch, self.log = self.log[:number], self.log[number:]
        return batch

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous, "one that waits cannot be told for how long"
        if self.commit_error is not None and self.failing:
            self.failing -= 1
            raise KafkaException(self.commit_error)
        self.unanswered.append(offsets)
        places = {(each.topic, each.partition): each for each in offsets}
        self.commits.append({place: each.offset for place, each in places.items()})
        if not self.stuck:
            self.stands |= places

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.silent is not None:
            self.silent(timeout)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [self.stands.get((each.topic, each.partition), each) for each in places]

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {(each.topic, each.partition) for each in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {(each.topic, each.partition) for each in places}

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned.append(list(self.commits))

    def unassign(self) -> None: ...

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        return 0, 100

    def close(self) -> None:
        self.closed = True


class Exits:
    """Outlets that are never used."""

    def serve(self) -> None: ...


class NoGates:
    """No gate has anything to tell."""

    def levels(self, now: float) -> list[Event]:
        return []

    def close(self) -> None: ...


@dataclass
class Rig:
    """A cursor on a scripted client, with the handler's door held by the test."""

    client: Client = field(default_factory=Client)
    events: list[Event] = field(default_factory=list)
    handled: list[int] = field(default_factory=list)
    door: threading.Event = field(default_factory=threading.Event)
    inside: threading.Event = field(default_factory=threading.Event)
    max_messages: int = 10
    drain_s: float = 5.0
    clock: Clock = REAL_CLOCK
    cursor: Cursor = field(init=False)
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        settings = WorkerSettings(commit_every_s=0.0, drain_s=self.drain_s, revoke_s=self.drain_s, batch=5)
        self.parts = Parts(
            lane=Lane.NORMAL,
            consumer=self.client,  # type: ignore[arg-type]
            incremental=False,
            settings=settings,
            listeners=Listeners([self]),
            gates=NoGates(),  # type: ignore[arg-type]
            start_at=lambda places, _: Beginning(places, []),
            clock=self.clock,
        )
        topic = TopicSettings("t", "t", max_messages=self.max_messages)
        binding = Binding(Lane.NORMAL, topic, "c", self._handle, OpenGate, shared=True)
        engine = Engine(binding, MarkReader(), Exits(), Listeners())  # type: ignore[arg-type]
        self.parts.crews["t"] = Threads(engine, self.parts.ended, self.parts.stopping)
        self.cursor = Cursor(self.parts)
        self.client.on_commit = self.cursor.committed

    def on(self, event: Event) -> None:
        self.events.append(event)

    def _handle(self, message: Any) -> None:
        self.handle(message)
        self.handled.append(message.offset())

    def handle(self, message: Any) -> None:
        """Wait at the door."""
        self.inside.set()
        self.door.wait()

    def lay_out(self, *offsets: int, partition: int = 0) -> None:
        self.client.log += [RawMessage(topic="t", partition=partition, offset=each, value=b"v") for each in offsets]

    def assign(self, *partitions: int, of: Mapping[str, int] | None = None) -> None:
        places = [*(("t", each) for each in partitions), *(of or {}).items()]
        self.cursor._assigned(self.client, [TopicPartition(*place) for place in places])  # type: ignore[arg-type]

    def turn_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if condition():
                return
            self.cursor.turn()
        pytest.fail("it never came")
