"""Puts one lane together: clients, gates, engines, strands, cursor. After this nothing is decided any more.

Trap: the first start of the shadow group begins where the normal group stands, and that place is committed at once.
Otherwise a shadow lane that is stuck on its very first message would begin further ahead after a restart, and the
messages between would be lost (``test_the_first_start_of_the_shadow_group_begins_where_the_normal_group_stands``).
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shadowstream.config import Route, TopicSettings
from shadowstream.gate import Gates, Verdict
from shadowstream.kafka.clients import consumer_of, mark_reader, producer_of
from shadowstream.kafka.cursor import Cursor, Parts
from shadowstream.kafka.engine import Binding, Engine
from shadowstream.kafka.outlets import Outlets
from shadowstream.kafka.worker.beginning import start_at
from shadowstream.kafka.worker.strands import Strands
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from confluent_kafka import KafkaError, TopicPartition
    from confluent_kafka import Producer as RawProducer

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Listeners
    from shadowstream.headers import MarkReader
    from shadowstream.kafka.engine.binding import Handler
    from shadowstream.kafka.message import Message

__all__ = ["OnLoop", "Registration", "assemble"]


@dataclass(frozen=True, slots=True)
class Registration:
    """What ``@worker.handles`` was told."""

    topic: str
    command: str
    handler: Handler


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
    client = producer_of(ours)
    reader = mark_reader(settings.mark)
    for registration in registrations:
        topic = settings.topic(registration.topic, lane)
        if lane is Lane.NORMAL or topic.enabled:
            parts.strands[topic.source] = Strands(_engine(ours, registration, parts, client, reader), parts.ended)
    cursor = Cursor(parts)
    return cursor


def _engine(
    ours: LaneSettings, registration: Registration, parts: Parts, client: RawProducer, reader: MarkReader
) -> Engine:
    topic = ours.topics[registration.topic]
    handler, ended = _synchronous(registration.handler)
    on_refusal = Verdict(topic.on_limit) if ours.lane is Lane.SHADOW else Verdict.WAIT
    binding = Binding(
        lane=ours.lane,
        topic=topic,
        command=registration.command,
        handler=handler,
        gate=parts.gates.gate(registration.command, on_refusal),
        shared=_shared(topic),
        ended=ended,
    )
    outlets = Outlets(client, topic.name, ours.lane, str(ours.kafka["group.id"]), parts.listeners)
    return Engine(binding, reader, outlets, parts.listeners, parts.stopping)


def _shared(topic: TopicSettings) -> bool:
    return topic.enabled and topic.route is Route.SAME


def _incremental(ours: LaneSettings) -> bool:
    cooperative = "cooperative" in str(ours.kafka.get("partition.assignment.strategy", ""))
    return cooperative or ours.kafka.get("group.protocol") == "consumer"


class OnLoop:
    """Calls an async handler from a strand: each strand has an event loop of its own, each call its own context."""

    def __init__(self, handler: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
        self._handler = handler
        self._loops = threading.local()

    def __call__(self, message: Message) -> object:
        """Run the handler to its end on this thread's loop."""
        if not hasattr(self._loops, "runner"):
            self._loops.runner = asyncio.Runner()
        return self._loops.runner.run(self._handler(message), context=copy_context())

    def close(self) -> None:
        """Close this thread's loop, and cancel what the handler left running on it."""
        if hasattr(self._loops, "runner"):
            self._loops.runner.close()


def _synchronous(handler: Handler) -> tuple[Handler, Callable[[], None]]:
    """Return what a strand calls for each message, and what it calls when it ends."""
    if not inspect.iscoroutinefunction(handler):
        return handler, _nothing
    on_loop = OnLoop(handler)
    return on_loop, on_loop.close


def _nothing() -> None:
    pass
