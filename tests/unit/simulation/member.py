"""One process of one lane: the engine as it is shipped, on clients in memory and simulated threads."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import shadowstream as ss
from shadowstream.errors import BrokerError
from shadowstream.events import Carried, Listeners, Rebalanced
from shadowstream.kafka.clients import consumer_properties, producer_properties
from shadowstream.kafka.clock import Clock
from shadowstream.kafka.strands import Threads
from shadowstream.kafka.worker.assembly import Ground, Registration, assemble
from shadowstream.testing import MemoryConsumer, MemoryProducer
from tests.unit.simulation.oracle import BURST, IN, OUT, BrokenLawError
from tests.unit.simulation.stage import Process, StageEvent, StageQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import TopicPartition

    from shadowstream.kafka.cursor import Parts
    from shadowstream.kafka.engine import Engine
    from shadowstream.kafka.offsets import Window
    from shadowstream.lane import Lane
    from tests.unit.simulation.oracle import Oracle, Sent
    from tests.unit.simulation.stage import Stage

ANSWER_S = 1.0
OFFSETS_S = 10.0
BEAT_S = 1.0
REPORT_S = 0.1
TURN_S = 1.0
"""How long a turn takes at most, without what callbacks take: a poll, a wait for room."""
EPSILON_S = 1e-6
REFUSED = {"wait", "park", "shed"}


class HandlerError(Exception):
    """A handler's own failure."""


@dataclass
class World:
    """What all members share."""

    stage: Stage
    broker: ss.testing.Broker
    oracle: Oracle
    settings: ss.Settings
    release: dict[Lane, StageEvent]
    """Set: handlers that hang go on."""
    style: str
    """``plain``, ``batch`` or ``by_hand``."""


class Watched(MemoryConsumer):
    """A consumer whose owner is watched: how often it polls, how long its callbacks take, what it commits in them."""

    def __init__(self, properties: dict[str, Any], member: Member) -> None:
        super().__init__(properties, broker=member.world.broker)
        self._member = member
        self._losing = False
        self._asked: dict[tuple[str, int], int] = {}
        self.polled_at = inf
        self._polls = False
        self._in_callbacks_s = 0.0

    def poll(self, timeout: float | None = None) -> Any:
        now = self.broker.clock.monotonic()
        if (took_s := now - self.polled_at - self._in_callbacks_s) > TURN_S + EPSILON_S:
            raise BrokenLawError(f"law 11: {self._member} did not poll for {took_s:.2f} s")
        self.polled_at, self._in_callbacks_s = now, 0.0
        if self._polls:
            raise BrokenLawError(f"{self._member}: two poll at once")
        self._polls = True
        try:
            return super().poll(timeout)
        finally:
            self._polls = False

    def commit(self, *args: Any, **more: Any) -> Any:
        if self._losing:
            raise BrokenLawError(f"law 9: {self._member} commits partitions that it has lost")
        for each in more.get("offsets") or ():
            place = (each.topic, each.partition)
            if each.offset < self._asked.get(place, 0):
                before = self._asked[place]
                raise BrokenLawError(f"law 8: {self._member} commits {each} after {before} in one assignment")
            self._asked[place] = each.offset
        return super().commit(*args, **more)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._member.world.oracle.reads_from(self._member.lane, partitions)
        super().assign(partitions)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self._member.world.oracle.reads_from(self._member.lane, partitions)
        super().incremental_assign(partitions)

    def subscribe(self, topics: list[str], on_assign: Any = None, on_revoke: Any = None, on_lost: Any = None) -> None:
        worker = self._member.world.settings.of(self._member.lane).worker
        assign_s = 2 * OFFSETS_S + 2 * ANSWER_S
        super().subscribe(
            topics,
            on_assign=self._timed(on_assign, assign_s),
            on_revoke=self._timed(on_revoke, worker.revoke_s + ANSWER_S),
            on_lost=self._timed(on_lost, 0.0, losing=True),
        )

    def _timed(self, callback: Any, seconds: float, *, losing: bool = False) -> Any:
        def called(consumer: Any, partitions: list[TopicPartition]) -> None:
            frozen_s, began = self._member.frozen_s, self.broker.clock.monotonic()
            self._losing = losing
            for each in partitions:
                self._asked.pop((each.topic, each.partition), None)
            try:
                callback(consumer, partitions)
            finally:
                self._losing = False
                took_s = self.broker.clock.monotonic() - began
                self._in_callbacks_s += took_s
                took_s -= self._member.frozen_s - frozen_s
            if took_s > seconds + 0.1 + EPSILON_S and not self._member.stopping:
                raise BrokenLawError(f"law 11: a callback of {self._member} took {took_s:.2f} s of {seconds:.2f}")

        return called


class Reporting(ss.Producer):
    """The producer as it is shipped, on clients in memory."""

    def __init__(self, member: Member) -> None:
        super().__init__(member.world.settings)
        self._member = member

    def _client(self, lane: Lane) -> Any:
        name = "_normal" if lane is ss.lane.Lane.NORMAL else "_shadow"
        if getattr(self, name) is None:
            setattr(self, name, self._member.producer(self._settings.of(lane)))
        return getattr(self, name)

    def _poll_in_background(self, client: Any) -> None:
        """Every client of a member is polled in its background."""


class Member(Process):
    """One lane's process."""

    def __init__(self, world: World, lane: Lane, name: str, instance: str | None = None) -> None:
        super().__init__(name)
        self.world, self.lane = world, lane
        self.instance = instance
        self.stopping = self.ended = False
        self.frozen_s = self._frozen_at = 0.0
        self.clients: list[Any] = []
        self.running: dict[Any, Sent] = {}
        self.last: dict[tuple[int, Any], int] = {}
        self.again: set[int] = set()
        self.attempts = 0
        chance = world.stage.chance.random
        clock = Clock(monotonic=world.broker.clock.monotonic, wall=world.broker.clock.time, chance=chance)
        ground: Any = Ground(self.consumer, self.producer, self._crew, clock, partial(StageEvent, world.stage))
        registration = Registration(
            IN,
            IN,
            {"plain": self.handle, "batch": self.handle_batch, "by_hand": self.handle_by_hand}[world.style],
            batch=4 if world.style == "batch" else None,
            settle="by_hand" if world.style == "by_hand" else "on_return",
        )
        self.parts: Parts
        self.cursor = assemble(world.settings, lane, [registration], Listeners([self]), ground)
        self.parts = self.cursor._parts
        self._bound = world.settings.topic(IN, lane).max_messages + self.parts.settings.batch
        self.made = Reporting(self)
        world.stage.spawn(self, self._main, "owner")

    def __repr__(self) -> str:
        return self.name

    # Its clients and threads

    def consumer(self, lane_settings: Any, **more: Any) -> Watched:
        ours = {"client.id": self.name, "session.timeout.ms": 6000, "max.poll.interval.ms": 60_000}
        ours |= {"heartbeat.interval.ms": 1000 * BEAT_S, "socket.timeout.ms": 1000 * ANSWER_S}
        static = {"group.instance.id": self.instance} if self.instance else {}
        consumer = Watched(consumer_properties(lane_settings) | more | ours | static, self)
        self._background(BEAT_S, consumer.heartbeat, lambda: consumer._closed)
        self.clients.append(consumer)
        return consumer

    def producer(self, lane_settings: Any, **more: Any) -> MemoryProducer:
        ours = {"client.id": self.name, "socket.timeout.ms": 1000 * ANSWER_S, "delivery.timeout.ms": 5000}
        producer = MemoryProducer(producer_properties(lane_settings) | more | ours, broker=self.world.broker)
        self._background(REPORT_S, partial(producer.poll, 0), lambda: self.ended)
        self.clients.append(producer)
        return producer

    def _background(self, every_s: float, work: Callable[[], object], over: Callable[[], bool]) -> None:
        def go_on() -> None:
            while True:
                self.world.stage.sleep(every_s)
                if over():
                    return
                work()

        self.world.stage.spawn(self, go_on, "background")

    def _crew(self, engine: Engine, parts: Parts, loop: object) -> Threads:
        stage = self.world.stage
        queue: Any = partial(StageQueue, stage)
        return Threads(engine, parts.ended, parts.stopping, spawn=partial(stage.spawn, self), queue=queue)

    def _main(self) -> None:
        try:
            self.cursor.run()
        except BrokerError:
            if not self.world.oracle.excuses:
                raise
        self.ended = True

    # What others do to it

    def stop(self) -> None:
        self.stopping = True
        self.cursor.stop()

    def crash(self) -> None:
        """End as with ``kill -9``."""
        if not self.ended:
            self.world.oracle.in_flight += sum(map(self._in_flight, self.cursor._windows.values()))
        self.world.stage.kill(self)
        for client in self.clients:
            client.crash()

    def _in_flight(self, window: Window) -> int:
        """Count what the gauge says, and what is begun in handlers that have not returned, or waits for a report."""
        oracle, pieces = self.world.oracle, window._pieces
        left = [raw for piece in pieces for raw in piece.messages[piece.done :]]
        begun = sum(oracle.sent[raw.partition(), raw.offset()].begun > 0 for raw in left)
        return window.repeated_by_a_crash() + begun + sum(len(piece.held) for piece in pieces)

    def freeze(self) -> None:
        """Stand still as with SIGSTOP."""
        if not self.frozen:
            self.frozen, self._frozen_at = True, self.world.broker.clock.monotonic()

    def thaw(self) -> None:
        """Go on as if no time had passed."""
        if self.frozen:
            slept_s = self.world.broker.clock.monotonic() - self._frozen_at
            self.frozen, self.frozen_s = False, self.frozen_s + slept_s
            for client in self.clients:
                if isinstance(client, Watched):
                    client.polled_at += slept_s

    @property
    def alive(self) -> bool:
        return not (self.dead or self.ended)

    # What it tells

    def on(self, event: Any) -> None:
        if self.dead:
            return
        if isinstance(event, Carried):
            self.world.oracle.counts[self.lane].update(event.outcomes)
            if REFUSED & event.verdicts.keys() and self.attempts < BURST:
                raise BrokenLawError(f"law 6: {self} is refused before it has used what is its own: {event.verdicts}")
        elif isinstance(event, Rebalanced):
            gone = {partition for _, partition in event.partitions}
            self.last = {strand: at for strand, at in self.last.items() if strand[0] not in gone}

    def check(self) -> None:
        """See that no queue is over its bound."""
        for crew in self.parts.crews.values():
            if crew.waiting() > self._bound:
                raise BrokenLawError(f"law 12: {crew.waiting()} messages wait in {self}")

    # Its handlers

    def handle(self, message: Any) -> None:
        self._handle(message).finished += 1

    def handle_batch(self, messages: list[Any]) -> None:
        # The mark of all of them is judged once, when they are given to their handler.
        now = self.world.broker.clock.time()
        for sent in [self._handle(message, now) for message in messages]:
            sent.finished += 1

    def _handle(self, message: Any, now: float | None = None) -> Sent:
        with self._begun(message, now) as sent:
            self._act(sent, sent.acts, message)
        return sent

    def handle_by_hand(self, message: Any) -> None:
        """Let somebody else finish it."""
        with self._begun(message) as sent:
            pass
        mark = message.mark

        def finish() -> None:
            with ss.entered(mark):
                self._finish(message, sent)

        self.world.stage.spawn(self, finish, "job")

    def _finish(self, message: Any, sent: Sent) -> None:
        try:
            self._act(sent, [act for act in sent.acts if act != ["emit"]], message)
        except HandlerError:
            self.again.add(sent.number)
            message.nack(0.2)
        else:
            sent.finished += 1
            message.ack()

    @contextmanager
    def _begun(self, message: Any, now: float | None = None) -> Iterator[Sent]:
        oracle = self.world.oracle
        self.attempts += 1
        sent = oracle.begins(self, message, self.world.broker.clock.time() if now is None else now)
        strand = self._strand(sent)
        if strand is not None:
            self._in_order(sent, strand)
            self.running[strand] = sent
        try:
            yield sent
        finally:
            self.running.pop(strand, None)
        oracle.in_lane(self, sent, "when its handler ended")

    def _strand(self, sent: Sent) -> Any:
        topic = self.world.settings.topic(IN, self.lane)
        if topic.order == "partition" or topic.concurrency == 1:
            return sent.partition, None
        return (sent.partition, sent.key) if topic.order == "key" else None

    def _in_order(self, sent: Sent, strand: Any) -> None:
        if strand in self.running:
            self.world.oracle.trouble.append(f"law 10: {self} handles {sent} beside {self.running[strand]}")
        if self.world.style == "plain" and sent.offset < self.last.get(strand, 0):
            self.world.oracle.trouble.append(f"law 10: {self} handles {sent} after offset {self.last[strand]}")
        self.last[strand] = sent.offset

    def _act(self, sent: Sent, acts: list[list[Any]], message: Any) -> None:
        stage, oracle = self.world.stage, self.world.oracle
        for act, *amount in acts:
            if act == "sleep":
                stage.sleep(*amount)
            elif act == "hang" and sent.begun <= amount[0]:
                self.world.release[self.lane].wait()
            elif act == "emit":
                self.made.produce(OUT, json.dumps(sent.number), key=message.key())
            elif act == "fail" and sent.begun <= amount[0]:
                raise HandlerError(f"attempt {sent.begun} of {sent.number}")
            oracle.in_lane(self, sent, f"after it did {act}")
