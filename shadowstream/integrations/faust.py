"""Faust (faust-streaming): one app for each lane, as the worker has one process for each.

::

    app = lane_app(settings, store="memory://")          # SHADOWSTREAM_LANE says which lane; normal without it

    @app.agent(app.topic("voucher.claimed"))
    async def dispatch(vouchers): ...

Agents see their lane's messages only, each in its lane and behind the lane's gate. What they send, and the changelogs
of their tables, carries the mark. The shadow app has a name of its own, ``<group.id>.shadow``, and with it groups and
changelogs. What it sends outside of any message (a timer) has no run: an error. Traps:

* A stream goes on where it yields: its body runs in the context of whoever iterates, so the lane is set there and not
  entered (``test_an_agent_is_in_the_lane_of_each_message``).
* Faust sends later, from other tasks: the mark is put on when the message is made
  (``test_what_an_agent_sends_carries_its_lane``).
* Not all of Faust's own topics have the app's name in theirs, so two apps would share them: shadow's begin with
  ``shadow.`` (``test_a_table_and_a_repartitioned_stream_stay_in_their_lane``).
* Faust acknowledges what an agent failed on: it counts as failed at its breaker, and is not read again
  (``test_an_agent_that_fails_opens_its_own_lanes_breaker``).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

import faust
from faust.exceptions import Skip
from faust.sensors import Sensor
from faust.transport.drivers.aiokafka import Consumer
from faust.types.transports import SchedulingStrategyT

from shadowstream.errors import MarkError, SetupError
from shadowstream.headers import MarkWriter
from shadowstream.integrations.gatehouse.clients import delivered
from shadowstream.integrations.gatehouse.lenient import tolerate_header_names
from shadowstream.integrations.gatehouse.process import lane_of_process
from shadowstream.integrations.gatehouse.record import Record
from shadowstream.integrations.gatehouse.sieve import Sieve
from shadowstream.integrations.gatehouse.stamp import stamped
from shadowstream.kafka.worker.supervisor import collect_less_often
from shadowstream.lane import Lane, entered, mark_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.integrations.gatehouse.sieve import Aside, Passage

__all__ = ["lane_app"]

SHADOW: Final = "shadow."
"""What shadow's own topics begin with."""
AT_ONCE: Final = 64
"""How many messages are stepped over before Faust gets one, and with it its chance to let other tasks run."""


def lane_app(
    settings: Settings,
    lane: Lane | str | None = None,
    *,
    commands: Mapping[str, str] | None = None,
    hooks: Iterable[Hook] = (),
    **options: Any,
) -> faust.App:
    """Return a Faust app in one lane; ``options`` are Faust's own.

    Its name is the lane's ``group.id``, its broker the lane's ``bootstrap.servers``, unless the options say otherwise.

    Raises:
        ConfigError: the lane is the shadow lane, and it is off.
        ValueError: there is no such lane.
    """
    lane = lane_of_process(lane)
    ours = settings.of(lane)
    tolerate_header_names()
    servers = str(ours.kafka["bootstrap.servers"]).split(",")
    own: dict[str, Any] = {"id": str(ours.kafka["group.id"]), "broker": [f"kafka://{each.strip()}" for each in servers]}
    app = _LaneApp(**{**own, **options, "Topic": _LaneTopic, "Stream": _LaneStream, "Agent": _LaneAgent})
    app.sieve = Sieve(settings, lane, partial(_deliver, app), commands=commands, hooks=hooks)
    app.writer = MarkWriter.of(settings.mark)
    return app


class _LaneApp(faust.App):
    """An app that knows its lane."""

    sieve: Sieve
    writer: MarkWriter

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.open: WeakKeyDictionary[asyncio.Task[Any], Passage] = WeakKeyDictionary()
        """What each task of an agent is at."""
        self.sensors.add(_Outs(self))

    def _new_transport(self) -> Any:
        transport: Any = super()._new_transport()
        transport.Consumer = _LaneConsumer
        return transport

    async def on_start(self) -> None:
        self.sieve.start()
        collect_less_often()
        await super().on_start()

    async def on_stop(self) -> None:
        await super().on_stop()
        self.sieve.close()

    def begun(self, passage: Passage) -> None:
        """Note what the task at hand is at, in the lane of that from now on."""
        task = asyncio.current_task()
        if task is not None:
            self.open[task] = passage
        # Never left: the next message sets it anew, and the context is the task's own.
        entered(passage.mark).__enter__()

    def ended(self, error: BaseException | None = None) -> None:
        """Note that the task at hand is done with what it was at."""
        task = asyncio.current_task()
        passage = None if task is None else self.open.pop(task, None)
        if passage is not None:
            passage.ended(error)


class _Books:
    """What of one partition may be committed."""

    __slots__ = ("at_work", "next")

    def __init__(self) -> None:
        self.at_work: dict[int, None] = {}
        """The offsets that were handed to Faust and are not acknowledged, in the order of reading."""
        self.next = 0

    def due(self) -> int:
        """Return the next offset to read after a restart: everything below it is done with."""
        return min(self.at_work, default=self.next)


class _LaneConsumer(Consumer):
    """A consumer that steps over the other lane's messages before Faust makes tasks of them.

    What it may commit it knows from books of its own. Faust's let a message be missing that lies right before the
    acknowledged ones, and before the first commit any number of them: where the other lane's messages are done with
    before one's own, that message would be lost (``test_nothing_that_is_at_work_is_ever_committed``).
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.scheduler = _OneLane(self.scheduler, self)
        self._books: dict[Any, _Books] = {}

    def stepped_over(self, place: Any, record: Any) -> bool:
        """Note that a message is done with if it is the other lane's, and tell whether it was."""
        app: Any = self.app
        if self._was_read(place, record) or not app.sieve.steps_over(record.topic, record.headers):
            return False
        self._opened(place, record)
        # What is not handed over would be taken for a gap.
        self._read_offset[place] = record.offset
        return True

    async def perform_seek(self) -> None:
        """Read on from what is committed, after a rebalance: what was at work is read again, here or elsewhere."""
        self._books.clear()
        await super().perform_seek()

    def _to_message(self, tp: Any, record: Any) -> Any:
        # The last that Faust does before it hands a message over.
        if not self._was_read(tp, record):
            books = self._opened(tp, record)
            if books is not None:
                books.at_work[record.offset] = None
        return super()._to_message(tp, record)

    def _was_read(self, place: Any, record: Any) -> bool:
        """Tell whether Faust will drop a message since it has read on from there."""
        read = self._read_offset[place]
        return read is not None and record.offset < read

    def _opened(self, place: Any, record: Any) -> _Books | None:
        """Note in its partition's books, if it has any, how far that was read."""
        books = self._books.get(place)
        if books is None:
            if not self.app.topics.acks_enabled_for(record.topic):
                return None
            books = self._books[place] = _Books()
        books.next = record.offset + 1
        return books

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        return (place for place in self._books if topics is None or place in topics or place.topic in topics)

    def _new_offset(self, tp: Any) -> int | None:
        books, acknowledged = self._books.get(tp), self._acked[tp]
        if books is None:
            return None
        while acknowledged:
            books.at_work.pop(acknowledged.pop(), None)
        # Faust's own books beside that list are not asked for anything, and must not grow.
        self._acked_index[tp].clear()
        self._gap.pop(tp, None)
        return books.due()


class _OneLane(SchedulingStrategyT):
    """Faust's order of messages, without those of the other lane."""

    def __init__(self, order: Any, consumer: _LaneConsumer) -> None:
        self._order, self._consumer = order, consumer

    def iterate(self, records: Any) -> Iterator[tuple[Any, Any]]:
        over, stepped_over = 0, self._consumer.stepped_over
        for place, record in self._order.iterate(records):
            if over < AT_ONCE and stepped_over(place, record):
                over += 1
                continue
            over = 0
            yield place, record


class _Outs(Sensor):
    """Hears when a stream is done with a message: after the agent asked for the next one."""

    def __init__(self, app: _LaneApp) -> None:
        super().__init__()
        self._app = app

    def on_stream_event_out(self, *_: Any, **__: Any) -> None:
        self._app.ended()


class _LaneAgent(faust.Agent):
    """An agent whose failures are told to the gate."""

    def __init__(self, *arguments: Any, on_error: Any = None, **options: Any) -> None:
        async def failed(agent: Any, error: BaseException) -> None:
            agent.app.ended(error)
            if on_error is not None:
                await on_error(agent, error)

        super().__init__(*arguments, on_error=failed, **options)


class _LaneStream(faust.Stream[Any]):
    """A stream of one lane's messages, each asked for at the gate."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A stream that was made from another one (by group_by, say) has that one's, too.
        others = [each for each in self._processors if getattr(each, "__func__", None) is not _LaneStream._sifted]
        self._processors = [self._sifted, *others]

    def _chain(self, **options: Any) -> Any:
        chained = super()._chain(**options)
        # Faust moves the processors to the new stream; this one still reads both lanes' messages.
        self._processors.insert(0, self._sifted)
        return chained

    async def _sifted(self, value: Any) -> Any:
        event = self.current_event
        if event is None or not isinstance(self.channel, faust.Topic):
            return value
        app: Any = self.app
        passage = await app.sieve.passed(_record(event.message), internal=self.channel.internal)
        if passage is None:
            raise Skip
        app.begun(passage)
        return value

    def take(self, *_: Any, **__: Any) -> Any:
        raise _no_batches("take")

    def take_events(self, *_: Any, **__: Any) -> Any:
        raise _no_batches("take_events")

    def take_with_timestamp(self, *_: Any, **__: Any) -> Any:
        raise _no_batches("take_with_timestamp")


class _LaneTopic(faust.Topic):
    """A topic whose messages carry the lane of whoever made them."""

    def __init__(self, app: Any, *, topics: Any = None, internal: bool = False, **options: Any) -> None:
        if topics:
            topics = [_own(app, each) if internal else app.sieve.source(each) for each in topics]
        super().__init__(app, topics=topics, internal=internal, **options)

    def prepare_headers(self, headers: Any) -> Any:
        prepared: Any = super().prepare_headers(headers)
        app: Any = self.app
        if app.sieve.lane is Lane.SHADOW and mark_here() is None and not self.internal:
            raise MarkError(
                f"a message to {self} would leave the shadow app without a run, and be a real one; make it where a"
                " message is handled, or say `with shadowstream.entered(Mark(run=...))`"
            )
        return stamped(app.writer, prepared.items() if isinstance(prepared, dict) else prepared)


def _record(message: Any) -> Record:
    pairs = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    milliseconds = int((message.timestamp or 0) * 1000)
    return Record(
        message.topic, message.partition, message.offset, message.key, message.value, list(pairs), milliseconds
    )


async def _deliver(app: faust.App, aside: Aside) -> None:
    await delivered(aside, partial(_send, app))


async def _send(app: faust.App, aside: Aside) -> None:
    record, headers = aside.record, cast("Any", aside.headers)
    if aside.internal:
        # Faust makes its own topics, and nobody else can know of what lies beside them.
        await app.topic(aside.topic, internal=True, partitions=1, replicas=app.conf.topic_replication_factor).declare()
    seconds = record.milliseconds / 1000
    await app.producer.send_and_wait(aside.topic, record.key(), record.value(), None, seconds, headers)


def _own(app: Any, topic: str) -> str:
    """Return the name of one of Faust's own topics in this lane: not all of them have the app's name in theirs."""
    ours = app.sieve.lane is Lane.NORMAL or topic.startswith((app.conf.id, SHADOW))
    return topic if ours else f"{SHADOW}{topic}"


def _no_batches(name: str) -> SetupError:
    return SetupError(
        f"stream.{name}() hands over messages of several runs at once, which are in no one lane; take them one by one,"
        " or use shadowstream.Worker with `batch=`"
    )
