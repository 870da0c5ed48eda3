"""Puts one lane together: clients, gates, engines, strands, cursor. After this nothing is decided any more.

Trap: the first start of the shadow group begins where the normal group stands, and that place is committed at once.
Otherwise a shadow lane that is stuck on its very first message would begin further ahead after a restart, and the
messages between would be lost (``test_the_first_start_of_the_shadow_group_begins_where_the_normal_group_stands``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from shadowstream.config import Route, TopicSettings
from shadowstream.gate import Gates, Verdict
from shadowstream.kafka.clients import consumer_of, mark_reader, producer_of
from shadowstream.kafka.cursor import Cursor, Parts
from shadowstream.kafka.engine import Binding, Engine, is_async
from shadowstream.kafka.outlets import Outlets, Senders
from shadowstream.kafka.strands import LaneLoop, Tasks, Threads
from shadowstream.kafka.worker.beginning import start_at
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import KafkaError, TopicPartition

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Listeners
    from shadowstream.kafka.engine.binding import Handler
    from shadowstream.kafka.strands import Crew

    Settle = Literal["on_return", "by_hand"]

__all__ = ["Registration", "Settle", "assemble"]


@dataclass(frozen=True, slots=True)
class Registration:
    """What ``@worker.handles`` was told."""

    topic: str
    command: str
    handler: Handler
    batch: int | None = None
    settle: Settle = "on_return"


def assemble(settings: Settings, lane: Lane, registrations: Sequence[Registration], listeners: Listeners) -> Cursor:
    """Build the cursor of one lane.

    Raises:
        ConfigError: the lane is the shadow lane and it is off.
        SetupError: a handled topic is not configured.
    """
    ours = settings.of(lane)
    cursor: Cursor

    def on_commit(error: KafkaError | None, places: list[TopicPartition]) -> None:
        cursor.committed(error, places)

    consumer = consumer_of(ours, on_commit=on_commit)
    parts = Parts(
        lane=lane,
        consumer=consumer,
        incremental=_incremental(ours),
        settings=ours.worker,
        listeners=listeners,
        gates=Gates(ours, listeners),
        start_at=start_at(settings, lane, consumer),
    )
    crews = _Crews(settings, ours, parts)
    for registration in registrations:
        topic = settings.topic(registration.topic, lane)
        if lane is Lane.NORMAL or topic.enabled:
            parts.crews[topic.source] = crews.crew(registration)
    cursor = Cursor(parts)
    return cursor


class _Crews:
    """Makes each topic's engine and who carries it, from what the lane has in common."""

    def __init__(self, settings: Settings, ours: LaneSettings, parts: Parts) -> None:
        self._ours = ours
        self._parts = parts
        self._senders = Senders(partial(producer_of, ours))
        self._reader = mark_reader(settings.mark)

    def crew(self, registration: Registration) -> Crew:
        engine = self._engine(registration)
        if is_async(registration.handler):
            return Tasks(engine, self._parts.ended, self._loop)
        return Threads(engine, self._parts.ended, self._parts.stopping)

    @cached_property
    def _loop(self) -> LaneLoop:
        return LaneLoop(f"{self._ours.lane}-loop")

    def _engine(self, registration: Registration) -> Engine:
        ours, parts = self._ours, self._parts
        topic, command = ours.topics[registration.topic], registration.command
        rule = ours.breaker(command)
        binding = Binding(
            lane=ours.lane,
            topic=topic,
            command=command,
            handler=registration.handler,
            gate=parts.gates.gate(command, _on_refusal(topic, ours.lane)),
            shared=topic.enabled and topic.route is Route.SAME,
            timeout_s=rule.timeout_s if rule else None,
            batch=registration.batch,
            by_hand=registration.settle == "by_hand",
        )
        outlets = Outlets(self._senders, topic.name, ours.lane, str(ours.kafka["group.id"]), parts.listeners)
        return Engine(binding, self._reader, outlets, parts.listeners)


def _on_refusal(topic: TopicSettings, lane: Lane) -> Verdict:
    return Verdict(topic.on_limit) if lane is Lane.SHADOW else Verdict.WAIT


def _incremental(ours: LaneSettings) -> bool:
    cooperative = "cooperative" in str(ours.kafka.get("partition.assignment.strategy", ""))
    return cooperative or ours.kafka.get("group.protocol") == "consumer"
