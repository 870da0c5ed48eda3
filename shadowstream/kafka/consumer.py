"""The thin wrapper, for people who own their poll loop.

One cursor reads both lanes, so a refused shadow message cannot wait: it is parked or shed. Traps:

* What is parked or quarantined is delivered before poll() returns, so any commit of yours may pass it
  (``test_the_thin_consumer_parks_or_sheds_what_is_refused_before_poll_returns``).
* The lane is restored by ``lane_of`` only: a shadow message handled outside of it would be handled as normal.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from shadowstream.config import OnLimit
from shadowstream.config.live import Watcher
from shadowstream.errors import SetupError
from shadowstream.events import Carried, Configured, Listeners, Outcome
from shadowstream.gate import Gates, Verdict
from shadowstream.headers import NORMAL, UNREADABLE, Kind, MarkReader
from shadowstream.kafka.clients import consumer_of, producer_of
from shadowstream.kafka.labels import scribe_of
from shadowstream.kafka.message import Message, values_of
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.outlets import Outlets, Senders, headers_of
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from confluent_kafka import Message as RawMessage
    from confluent_kafka import TopicPartition

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Hook
    from shadowstream.gate import Gate, Ticket
    from shadowstream.headers import Reading

__all__ = ["Consumer"]

SERVE_S = 0.005


class _Gated(Message):
    """A shadow message that the gate admitted, with its ticket."""

    __slots__ = ("gate", "ticket")

    gate: Gate
    ticket: Ticket


class Consumer:
    """confluent-kafka's consumer that tells the lanes apart, for a poll loop of your own.

    Raises:
        SetupError: a topic is not configured, is transactional, or its ``shadow`` ``on_limit`` is ``wait``.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        *,
        commands: Mapping[str, str] | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self._listeners = Listeners(hooks)
        self._reader = MarkReader.of(settings.mark)
        self._shadow = None if settings.shadow is None else Gates(settings.shadow, self._listeners)
        self._made = partial(_gates, settings, topics, commands or {}, self._shadow)
        self._gates = self._made()
        self._senders = Senders(partial(producer_of, settings.shadow or settings.normal))
        # One cursor, one group: what it sets aside is shadow's, and was read by the normal one.
        scribe = replace(scribe_of(settings.normal, settings.mark.header), lane=Lane.SHADOW)
        self._outlets = {topic: Outlets(self._senders, topic, scribe, self._listeners) for topic in topics}
        # Offsets are stored as with confluent-kafka, so that commit() without arguments means what it means there.
        self.raw = consumer_of(settings.normal, **{"enable.auto.offset.store": True})
        """The client's own consumer, for everything that is not here."""
        self.raw.subscribe(list(topics))
        followers = {} if self._shadow is None else {Lane.SHADOW: partial(self._adopt, self._shadow)}
        self._watcher = Watcher(settings, followers, lambda *told: self._listeners.on(Configured(*told)))
        if self._shadow is not None:
            self._shadow.hear(self._watcher.lay_over)
        self._watcher.start()

    def poll(self, timeout: float = -1) -> Message | None:
        """Return the next message that is to be handled, in whichever lane; None after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        left = timeout
        while (raw := self.raw.poll(left)) is not None:
            for message in self._sifted([raw]):
                return message
            if timeout >= 0 and (left := until - time.monotonic()) <= 0:
                return None
        return None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Return up to ``num_messages``: those at hand once a first one came, [] after ``timeout`` seconds."""
        first = self.raw.poll(timeout)
        if first is None:
            return []
        return self._sifted([first, *self.raw.consume(num_messages - 1, 0)])

    @contextmanager
    def lane_of(self, message: Message) -> Iterator[None]:
        """Do the work inside the block in the message's lane, and tell the gate how it ended."""
        started = time.monotonic()
        outcome, failure = Outcome.HANDLED, None
        try:
            with entered(message.mark):
                yield
        except BaseException as error:
            outcome, failure = Outcome.FAILED, error
            raise
        finally:
            now = time.monotonic()
            if isinstance(message, _Gated):
                message.gate.leave(message.ticket, outcome, now, failure)
            self._count(message.raw, message.lane, outcome, (now - started,))

    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        *,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Commit one message's offset, some offsets, or everything that poll() has returned."""
        what: dict[str, Any] = {} if message is None else {"message": message.raw}
        if offsets is not None:
            what = {"offsets": offsets}
        answer: list[TopicPartition] | None = self.raw.commit(asynchronous=asynchronous, **what)  # type: ignore[call-overload] # one of its three forms
        return answer

    def close(self) -> None:
        """Leave the group, and what is shared with others."""
        self._watcher.end()
        self.raw.close()
        if self._shadow is not None:
            self._shadow.close()

    def _adopt(self, gates: Gates, settings: LaneSettings) -> None:
        gates.adopt(settings, time.monotonic())
        self._gates = self._made()

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group."""
        self.close()

    def _sifted(self, batch: list[RawMessage]) -> list[Message]:
        """Keep what is to be handled; park, shed, quarantine and step over the rest, and wait for the copies."""
        piece = Piece(batch)
        kept = []
        for raw in batch:
            message = self._sift(raw, piece)
            if message is not None:
                kept.append(message)
        while piece.held:
            self._senders.poll(SERVE_S)
            for outlets in self._outlets.values():
                outlets.serve()
        return kept

    def _sift(self, raw: RawMessage, piece: Piece) -> Message | None:
        if raw.error() is not None:
            return Message(raw)
        reading = self._read(raw)
        if reading.kind is Kind.NORMAL:
            return Message(raw)
        if reading.kind is Kind.SHADOW:
            return self._gated(raw, reading, piece)
        if reading.kind is Kind.EXPIRED:
            self._count(raw, Lane.SHADOW, Outcome.EXPIRED)
        else:
            self._outlets[raw.topic() or ""].quarantine(raw, piece, reading.reason)
            self._count(raw, Lane.SHADOW, Outcome.QUARANTINED)
        return None

    def _read(self, raw: RawMessage) -> Reading:
        try:
            headers = headers_of(raw)
        except SystemError:
            return UNREADABLE
        return NORMAL if headers is None else self._reader.read(headers, time.time())

    def _gated(self, raw: RawMessage, reading: Reading, piece: Piece) -> Message | None:
        topic = raw.topic() or ""
        gate = self._gates.get(topic)
        if gate is None:
            self._count(raw, Lane.SHADOW, Outcome.SHED)
            return None
        message = _Gated(raw, reading.mark)
        ticket = gate.enter(time.monotonic(), message)
        if ticket.verdict is Verdict.PARK:
            self._outlets[topic].park(raw, piece)
        if ticket.verdict is not Verdict.ADMIT:
            self._count(raw, Lane.SHADOW, Outcome.PARKED if ticket.verdict is Verdict.PARK else Outcome.SHED)
            return None
        message.gate, message.ticket = gate, ticket
        return message

    def _count(self, raw: RawMessage, lane: Lane, outcome: Outcome, seconds: tuple[float, ...] = ()) -> None:
        if self._listeners:
            topic = raw.topic() or ""
            self._listeners.on(Carried(lane, topic, raw.partition() or 0, topic, {outcome: 1}, 0, {}, seconds=seconds))


def _gates(
    settings: Settings, topics: Sequence[str], commands: Mapping[str, str], gates: Gates | None
) -> dict[str, Gate]:
    """Build the shadow gate of each topic; none when the shadow lane is off, and its messages are shed."""
    for topic in topics:
        if settings.transactional(topic):
            raise SetupError(
                f"topic {topic!r} is transactional: in a poll loop of your own the commits are yours, and no"
                " transaction of ours can hold them; use Worker, or write `transactional: false`"
            )
    if gates is None:
        return {}
    for topic in topics:
        rate = settings.of(Lane.SHADOW).rate(commands.get(topic, topic))
        if rate is not None and rate.by_partitions:
            raise SetupError(
                f"topic {topic!r}: its shadow rate goes by partitions, which a poll loop of your own does not tell of;"
                " write `fleet: true` instead, or use Worker"
            )
    return {topic: gates.gate(commands.get(topic, topic), _verdict(settings, topic), values_of) for topic in topics}


def _verdict(settings: Settings, topic: str) -> Verdict:
    on_limit = settings.topic(topic, Lane.SHADOW).on_limit
    if on_limit is OnLimit.WAIT:
        raise SetupError(
            f"topic {topic!r}: a poll loop of your own has one cursor, so a refused shadow message cannot wait;"
            f" set `topics: {topic}: {{shadow: {{on_limit: park}}}}` (or shed), or use Worker"
        )
    return Verdict(on_limit)
