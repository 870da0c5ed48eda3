"""One message, one straight line: read mark > ask gate > run handler in its lane > tell gate > settle offset.

This is the only place that knows the order. An engine serves one topic in one lane; strands share it, so it keeps no
state of a message. What differs between the lanes (how a handler is called, which messages are whose) is chosen when it
is built, so that a normal message never pays for an ``if shadow``. Traps:

* Both cursors read every message of a shared topic, and each message must have exactly one owner: `fate`
  (``test_each_reading_has_exactly_one_owner_among_the_two_lanes``).
* A handler may raise anything, SystemExit too (``test_a_handler_that_raises_anything_is_recorded_and_the_next_runs``).
* Headers come through ``map``, not by ``raw.headers()``: a warm call of that kind is not checked by the interpreter,
  and hands out the broken list of a message whose header key is not UTF-8
  (``test_a_header_key_that_is_not_utf8_is_quarantined_and_the_log_goes_on``).
* The gate is asked again before each retry, so retries pass the breaker and pay the limiter like any other call.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from confluent_kafka import Message as RawMessage

from shadowstream.events import Carried, Outcome
from shadowstream.gate import OpenGate, Verdict
from shadowstream.headers import NEAR_MISS, NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.kafka.clients import Throttle, logger_of
from shadowstream.kafka.message import Message
from shadowstream.kafka.offsets import Piece, source
from shadowstream.kafka.outlets import Interrupted, Outlets
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from shadowstream.config import TopicSettings
    from shadowstream.events import Listeners
    from shadowstream.gate import Gate, Ticket
    from shadowstream.kafka.outlets import Headers

    Handler = Callable[[Message], object]

__all__ = ["Binding", "Engine", "Tally", "fate"]

UNTELLABLE = frozenset(("unreadable", "too_many_headers"))
"""Reasons that leave it open whether a message is marked at all."""
MAX_BACKOFF_S = 5.0
SLICE_S = 0.1
ANNOUNCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A handler with all that one lane decided about it when the worker was built."""

    lane: Lane
    topic: TopicSettings
    command: str
    handler: Handler
    gate: Gate
    shared: bool
    """Whether the other lane's cursor reads this Kafka topic too."""
    ended: Callable[[], None] = lambda: None
    """Called by each strand, in its thread, when it ends."""

    def delays_s(self) -> tuple[float, ...]:
        """Return how long to rest before each retry."""
        return tuple(min(self.topic.backoff_s * 2**n, MAX_BACKOFF_S) for n in range(self.topic.retries))


class Tally:
    """One strand's notes while it carries a piece: the time, and what happened since it was last announced."""

    __slots__ = (
        "announce_at",
        "error",
        "headers",
        "now",
        "outcomes",
        "partition",
        "reasons",
        "seconds",
        "stepped_over",
        "verdicts",
        "wall",
    )

    def __init__(self, messages: Sequence[RawMessage]) -> None:
        self.partition = messages[0].partition() or 0
        self.headers = cast("Iterator[Headers | None]", map(RawMessage.headers, messages))
        """The headers of one message after the other."""
        self.now = time.monotonic()
        """Monotonic seconds when the strand last looked at the clock: once per message, at its end."""
        self.wall = time.time() - self.now
        """Unix seconds at monotonic zero."""
        self.error: BaseException | None = None
        """What the handler raised at its last attempt."""
        self.begin()

    def begin(self) -> None:
        """Start counting anew."""
        self.announce_at = self.now + ANNOUNCE_S
        self.outcomes: Counter[Outcome] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.stepped_over = 0

    def tick(self) -> float:
        """Look at the clock."""
        self.now = time.monotonic()
        return self.now


def fate(lane: Lane, shared: bool, reading: Reading) -> tuple[Outcome, str] | None:  # noqa: FBT001 - a pure rule
    """Tell what a cursor does with a message that is not its lane's to handle; None: step over it.

    On a shared topic a message with a mark header belongs to the shadow cursor, whatever the mark is worth; one without
    belongs to the normal cursor, and so does one of which nobody can tell.
    """
    if not shared:
        if lane is Lane.SHADOW and reading.kind is Kind.EXPIRED:
            return Outcome.EXPIRED, ""
        alone = "unmarked" if lane is Lane.SHADOW else "misrouted"
        return Outcome.QUARANTINED, reading.reason if reading.kind is Kind.QUARANTINE else alone
    marked = reading.kind is not Kind.NORMAL and reading.reason not in UNTELLABLE
    if marked is (lane is Lane.NORMAL) or reading.kind is Kind.NORMAL:
        return None
    return (Outcome.EXPIRED if reading.kind is Kind.EXPIRED else Outcome.QUARANTINED), reading.reason


class Engine:
    """Carries the messages of one topic in one lane."""

    def __init__(
        self,
        binding: Binding,
        reader: MarkReader,
        outlets: Outlets,
        listeners: Listeners,
        stopping: threading.Event,
    ) -> None:
        self.binding = binding
        self.outlets = outlets
        self._read = reader.read
        self._mine = Kind.NORMAL if binding.lane is Lane.NORMAL else Kind.SHADOW
        self._foreign = _foreign(binding)
        self._handler = binding.handler if binding.lane is Lane.NORMAL else _in_lane(binding.handler)
        self._gate = binding.gate
        self._delays = binding.delays_s()
        self._listeners = listeners
        self._counting = bool(listeners)
        self._attempt = self._ungated if _free(binding, listeners) else self._gated
        self._stopping = stopping
        self._throttle = Throttle(logger_of("engine").warning)

    def carry(self, piece: Piece) -> None:
        """Carry one piece's messages in order, from the poll to their settled offsets."""
        source.set(piece)
        piece.on_lost_output = self._lost_output(piece)
        tally = Tally(piece.messages)
        # Said before `cancelled` is looked at: whoever cancels looks the other way round.
        piece.running = True
        try:
            for raw in piece.messages:
                if piece.cancelled or not self.handle(raw, piece, tally):
                    break
                piece.done += 1
        except Interrupted:
            pass
        finally:
            piece.running = False
            piece.close()
            self._announce(tally)

    def handle(self, raw: RawMessage, piece: Piece, tally: Tally) -> bool:
        """Carry one message: read mark, ask gate, run handler, tell gate; False when called off and not settled."""
        try:
            headers = next(tally.headers)
        except SystemError:
            reading = UNREADABLE
        else:
            reading = NORMAL if headers is None else self._read(headers, tally.now + tally.wall)
        if reading.kind is not self._mine:
            self._aside(raw, reading, piece, tally)
            return True
        message = Message(raw, reading.mark)
        ticket = self._gate.enter(tally.now)
        outcome = self._attempt(message, ticket, tally) if ticket.verdict is Verdict.ADMIT else None
        if outcome is not Outcome.HANDLED:
            outcome = self._persevere(message, ticket, outcome, piece, tally)
        if self._counting:
            self._count(outcome, reading, tally)
        return outcome is not Outcome.CANCELLED

    def _ungated(self, message: Message, _ticket: Ticket, tally: Tally) -> Outcome:
        """Run the handler once; nobody is to be told, and nothing asks for the time."""
        try:
            self._handler(message)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is recorded, and the lane goes on
            tally.error = error
            return Outcome.FAILED
        return Outcome.HANDLED

    def _gated(self, message: Message, ticket: Ticket, tally: Tally) -> Outcome:
        """Run the handler once in its lane and tell the gate."""
        began = tally.now
        try:
            self._handler(message)
            outcome = Outcome.HANDLED
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is recorded, and the lane goes on
            tally.error = error
            outcome = Outcome.CANCELLED if isinstance(error, asyncio.CancelledError) else Outcome.FAILED
        tally.now = time.monotonic()
        self._gate.leave(ticket, outcome, tally.now)
        if self._counting:
            tally.seconds.append(tally.now - began)
            tally.verdicts["admit_soft" if ticket.soft else "admit"] += 1
        return outcome

    def _persevere(
        self, message: Message, ticket: Ticket, outcome: Outcome | None, piece: Piece, tally: Tally
    ) -> Outcome:
        """Go on with a message that was refused or failed at first: wait, retry, give up."""
        delays = iter(self._delays)
        while outcome is not Outcome.HANDLED:
            if outcome is not None:
                delay_s = next(delays, None)
                if delay_s is None:
                    return self._dead_letter(message.raw, tally.error, piece)
                if not self._rested(delay_s, piece, tally):
                    return Outcome.CANCELLED
                ticket = self._gate.enter(tally.now)
            while ticket.verdict is Verdict.WAIT:
                tally.verdicts[ticket.verdict] += 1
                self._announce_when_due(tally)
                if not self._rested(ticket.wait_s, piece, tally):
                    return Outcome.CANCELLED
                ticket = self._gate.enter(tally.now)
            if ticket.verdict is not Verdict.ADMIT:
                return self._refused(message.raw, ticket, piece, tally)
            outcome = self._attempt(message, ticket, tally)
        return outcome

    def _dead_letter(self, raw: RawMessage, error: BaseException | None, piece: Piece) -> Outcome:
        lane, command = self.binding.lane, self.binding.command
        where = f"topic={raw.topic()} partition={raw.partition()} offset={raw.offset()}"
        self._throttle.say(
            type(error).__name__, f"handler_failed lane={lane} command={command} {where} error={error!r}"
        )
        self.outlets.dead_letter(raw, piece, error or RuntimeError("unknown"))
        return Outcome.FAILED

    def _refused(self, raw: RawMessage, ticket: Ticket, piece: Piece, tally: Tally) -> Outcome:
        tally.verdicts[ticket.verdict] += 1
        if ticket.verdict is Verdict.SHED:
            return Outcome.SHED
        self.outlets.park(raw, piece)
        return Outcome.PARKED

    def _aside(self, raw: RawMessage, reading: Reading, piece: Piece, tally: Tally) -> None:
        """Do what is to be done with a message that this lane does not handle."""
        verdict = None if reading.kind in self._foreign else fate(self.binding.lane, self.binding.shared, reading)
        if verdict is None:
            tally.stepped_over += 1
            return
        outcome, reason = verdict
        if outcome is Outcome.QUARANTINED:
            tally.reasons[reason] += 1
            self.outlets.quarantine(raw, piece, reason)
        tally.outcomes[outcome] += 1

    def _rested(self, seconds: float, piece: Piece, tally: Tally) -> bool:
        """Rest; False when the work was called off meanwhile."""
        until = tally.tick() + seconds
        while not piece.cancelled:
            if (left := until - tally.tick()) <= 0:
                return True
            self._stopping.wait(min(left, SLICE_S))
        return False

    def _lost_output(self, piece: Piece) -> Callable[[RawMessage, str], object]:
        return lambda raw, error: self._dead_letter(raw, RuntimeError(error), piece)

    def _count(self, outcome: Outcome, reading: Reading, tally: Tally) -> None:
        if outcome is not Outcome.CANCELLED:
            tally.outcomes[outcome] += 1
        if reading is NEAR_MISS:
            tally.reasons[reading.reason] += 1
        self._announce_when_due(tally)

    def _announce_when_due(self, tally: Tally) -> None:
        if tally.now >= tally.announce_at:
            self._announce(tally)

    def _announce(self, tally: Tally) -> None:
        if not self._counting:
            return
        fact = Carried(
            self.binding.lane,
            self.binding.topic.name,
            tally.partition,
            self.binding.command,
            tally.outcomes,
            tally.stepped_over,
            tally.verdicts,
            tally.reasons,
            tuple(tally.seconds),
        )
        tally.begin()
        self._listeners.on(fact)


def _foreign(binding: Binding) -> frozenset[Kind]:
    """Return the kinds that are stepped over whatever else was read, so that `fate` is asked only in rare cases."""
    kinds = (Kind.NORMAL, Kind.SHADOW, Kind.EXPIRED)
    return frozenset(kind for kind in kinds if fate(binding.lane, binding.shared, Reading(kind, None, "")) is None)


def _free(binding: Binding, listeners: Listeners) -> bool:
    """Tell whether normal messages pass with no gate and no listener: then no clock is read for them either."""
    return binding.lane is Lane.NORMAL and isinstance(binding.gate, OpenGate) and not listeners


def _in_lane(handler: Handler) -> Handler:
    def run(message: Message) -> None:
        with entered(message.mark):
            handler(message)

    return run
