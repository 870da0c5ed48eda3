"""Puts one lane together: clients, gates, engines, strands, cursor. After this nothing is decided any more.

Trap: the first start of the shadow group begins where the normal group stands, and that place is committed at once.
Otherwise a shadow lane that is stuck on its very first message would begin further ahead after a restart, and the
messages between would be lost (``test_the_first_start_of_the_shadow_group_begins_where_the_normal_group_stands``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Event
from typing import TYPE_CHECKING, Final, Literal

from shadowstream.errors import SetupError
from shadowstream.gate import Gates, Verdict
from shadowstream.headers import MarkReader
from shadowstream.kafka.clients import (
    consumer_of,
    member_properties,
    producer_of,
    transactional_properties,
)
from shadowstream.kafka.clock import REAL_CLOCK, Clock
from shadowstream.kafka.cursor import Cursor, Parts
from shadowstream.kafka.engine import Binding, Engine, is_async
from shadowstream.kafka.labels import scribe_of
from shadowstream.kafka.message import values_of
from shadowstream.kafka.outlets import Outlets, Senders, retry_topic
from shadowstream.kafka.strands import LaneLoop, Tasks, Threads
from shadowstream.kafka.transactions import Shelf, Slips, joined_to
from shadowstream.kafka.transactions.aside import Aside
from shadowstream.kafka.transactions.transaction import Transaction
from shadowstream.kafka.worker.beginning import start_at
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Consumer as RawConsumer
    from confluent_kafka import KafkaError, TopicPartition
    from confluent_kafka import Producer as RawProducer

    from shadowstream.config import LaneSettings, Settings, TopicSettings
    from shadowstream.events import Listeners
    from shadowstream.gate.guard import Guard
    from shadowstream.kafka.engine.binding import Handler
    from shadowstream.kafka.strands import Crew

    LoopOf = Callable[[], LaneLoop]
    Settle = Literal["on_return", "by_hand"]

__all__ = ["Ground", "Registration", "Settle", "assemble", "check_batch"]

MOST_AT_REST: Final = 1000
"""Messages of a retry topic that are read and not finished."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What ``@worker.handles`` was told."""

    topic: str
    command: str
    handler: Handler
    batch: int | None = None
    settle: Settle = "on_return"


def crew_of(engine: Engine, parts: Parts, loop: LoopOf) -> Crew:
    """Make the hands of one topic: tasks on the lane's loop for an async handler, threads for a sync one."""
    if is_async(engine.binding.handler):
        return Tasks(engine, parts.ended, loop())
    return Threads(engine, parts.ended, parts.stopping)


@dataclass(frozen=True, slots=True)
class Ground:
    """What lanes stand on: the outer world, which a simulation gives its own of."""

    consumer: Callable[..., RawConsumer] = consumer_of
    """Makes a consumer from a lane's settings and further properties."""
    producer: Callable[..., RawProducer] = producer_of
    """Makes a producer likewise."""
    crew: Callable[[Engine, Parts, LoopOf], Crew] = crew_of
    """Makes who carries an engine."""
    clock: Clock = REAL_CLOCK
    event: Callable[[], Event] = Event
    """Makes what threads wait for."""
    aside: Callable[[Callable[[], Transaction], Clock], Transaction | Aside] = Aside
    """Puts transactions on a thread of their own."""


WORLD: Final = Ground()


def assemble(
    settings: Settings,
    lane: Lane,
    registrations: Sequence[Registration],
    listeners: Listeners,
    ground: Ground = WORLD,
    guard: Guard | None = None,
) -> Cursor:
    """Build the cursor of one lane; ``guard`` is shadow's.

    Raises:
        ConfigError: the lane is the shadow lane and it is off.
        SetupError: a handled topic is not configured.
    """
    ours = settings.of(lane)
    topics = {each.topic: settings.topic(each.topic, lane) for each in registrations}
    handled = [each for each in registrations if lane is Lane.NORMAL or topics[each.topic].enabled]
    cursor: Cursor

    def on_commit(error: KafkaError | None, places: list[TopicPartition]) -> None:
        cursor.committed(error, places)

    consumer = ground.consumer(ours, on_commit=on_commit, **member_properties(ours))
    parts = Parts(
        lane=lane,
        consumer=consumer,
        incremental=_incremental(ours),
        settings=ours.worker,
        listeners=listeners,
        gates=Gates(ours, listeners, guard),
        start_at=start_at(settings, lane, consumer, ground.consumer, ground.clock),
        stopping=ground.event(),
        room=ground.event(),
        back=ground.event(),
        transaction=_transaction(ours, ground) if any(topics[each.topic].transactional for each in handled) else None,
        clock=ground.clock,
    )
    crews = _Crews(settings, ours, parts, ground)
    for registration in handled:
        topic = topics[registration.topic]
        parts.crews[topic.source] = crews.crew(registration, topic)
        if topic.rounds:
            again = _resting(topic, lane)
            parts.crews[again.source] = crews.crew(registration, again)
    cursor = Cursor(parts)
    return cursor


class _Crews:
    """Makes each topic's engine and who carries it, from what the lane has in common."""

    def __init__(self, settings: Settings, ours: LaneSettings, parts: Parts, ground: Ground) -> None:
        self._ours = ours
        self._parts = parts
        self._ground = ground
        self._senders = Senders(partial(ground.producer, ours))
        self._reader = MarkReader.of(settings.mark)
        self._scribe = scribe_of(ours, settings.mark.header)

    def crew(self, registration: Registration, topic: TopicSettings) -> Crew:
        """Make who carries the messages of a topic, the one that was registered or its retry topic."""
        return self._ground.crew(self._engine(registration, topic), self._parts, lambda: self._loop)

    @cached_property
    def _loop(self) -> LaneLoop:
        return LaneLoop(f"{self._ours.lane}-loop")

    def _engine(self, registration: Registration, topic: TopicSettings) -> Engine:
        ours, parts = self._ours, self._parts
        check_batch(ours, registration)
        command, returns = registration.command, topic.name != registration.topic
        rule = ours.breaker(command)
        binding = Binding(
            lane=ours.lane,
            topic=topic,
            command=command,
            handler=registration.handler,
            gate_of=partial(parts.gates.gate, command, Verdict(topic.on_limit), values_of),
            shared=topic.shared and not returns,
            timeout_s=rule.timeout_s if rule else None,
            batch=registration.batch,
            by_hand=registration.settle == "by_hand",
            returns=returns,
            clock=parts.clock,
        )
        senders: Senders | Slips = self._senders
        if topic.transactional:
            shelf = parts.shelves[topic.source] = Shelf(topic)
            binding, senders = joined_to(shelf, binding, ours.kafka["bootstrap.servers"]), Slips()
        outlets = Outlets(
            senders, registration.topic, self._scribe, parts.listeners, returns=returns, clock=parts.clock
        )
        return Engine(binding, self._reader, outlets, parts.listeners)


def _transaction(ours: LaneSettings, ground: Ground) -> Transaction | Aside:
    properties = transactional_properties(ours)
    name = str(properties["transactional.id"])

    def make() -> Transaction:
        return Transaction(ground.producer(ours, **properties), name, ours.lane, ground.clock)

    return ground.aside(make, ground.clock)


def _resting(topic: TopicSettings, lane: Lane) -> TopicSettings:
    """Return a topic's settings for its retry topic; few are held at a time, as each of them may rest for long."""
    place = retry_topic(topic.name, lane)
    return replace(topic, name=place, source=place, max_messages=min(topic.max_messages, MOST_AT_REST))


def check_batch(ours: LaneSettings, registration: Registration) -> None:
    """Refuse a limit that looks at single messages for a handler of many.

    Raises:
        SetupError: it has one.
    """
    if registration.batch is not None and ours.key_limits.get(registration.command) is not None:
        raise SetupError(
            f"topic {registration.topic!r}: the limit by keys of {registration.command!r} looks at one message at a"
            f" time; leave batch out, or write `multi_key_rate_limit_v2: {registration.command}: null`"
        )


def _incremental(ours: LaneSettings) -> bool:
    cooperative = "cooperative" in str(ours.kafka.get("partition.assignment.strategy", ""))
    return cooperative or ours.kafka.get("group.protocol") == "consumer"
