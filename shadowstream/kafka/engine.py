"""One message, one straight line: read mark > ask gate > run handler in its lane > tell gate > settle offset.

This is the only place that knows the order. An engine serves one topic in one lane; strands share it, so it keeps no
state of a message. What differs between the lanes (how a handler is called, which messages are whose) is chosen when it
is built, so that a normal message never pays for an ``if shadow``. Traps:

* Both cursors read every message of a shared topic, and each message must have exactly one owner: `fate`
  (``test_each_reading_has_exactly_one_owner_among_the_two_lanes``).
* A handler may raise anything, SystemExit too (``test_a_handler_that_raises_anything_is_recorded_and_the_next_runs``).
* The gate is asked again before each retry, so retries pass the breaker and pay the limiter like any other call.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.events import Carried, Outcome
from shadowstream.gate import Verdict
from shadowstream.headers import NEAR_MISS, NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.kafka.clients import Throttle, logger_of
from shadowstream.kafka.message import Message
from shadowstream.kafka.offsets import Piece, source
from shadowstream.kafka.outlets import Interrupted, Outlets, headers_of
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import TopicSettings
    from shadowstream.events import Listeners
    from shadowstream.gate import Gate, Ticket

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

    def delays_s(self) -> tuple[float, ...]:
        """Return how long to rest before each attempt."""
        backoff = self.topic.backoff_s
        return (0.0, *(min(backoff * 2**n, MAX_BACKOFF_S) for n in range(self.topic.retries)))


class Tally:
    """What happened to the messages of one piece since it was last announced; one strand's own."""

    __slots__ = ("announce_at", "outcomes", "partition", "reasons", "seconds", "stepped_over", "verdicts")

    def __init__(self, partition: int, now: float) -> None:
        self.partition = partition
        self.begin(now)

    def begin(self, now: float) -> None:
        """Start counting anew at monotonic time ``now``."""
        self.announce_at = now + ANNOUNCE_S
        self.outcomes: Counter[Outcome] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.stepped_over = 0


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
        self._reader = reader.read
        self._mine = Kind.NORMAL if binding.lane is Lane.NORMAL else Kind.SHADOW
        self._call = _called if binding.lane is Lane.NORMAL else _called_in_lane
        self._handler = binding.handler
        self._gate = binding.gate
        self._delays = binding.delays_s()
        self._listeners = listeners
        self._counting = bool(listeners)
        self._stopping = stopping
        self._throttle = Throttle(logger_of("engine").warning)

    def carry(self, piece: Piece) -> None:
        """Carry one piece's messages in order, from the poll to their settled offsets."""
        source.set(piece)
        piece.on_lost_output = self._lost_output(piece)
        tally = Tally(piece.messages[0].partition() or 0, time.monotonic())
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
            self._announce(tally)

    def handle(self, raw: RawMessage, piece: Piece, tally: Tally) -> bool:
        """Carry one message; False when it was interrupted and is not settled."""
        reading = self._read(raw)
        if reading.kind is not self._mine:
            self._aside(raw, reading, piece, tally)
            return True
        message = Message(raw, reading.mark)
        error: BaseException | None = None
        for delay_s in self._delays:
            ticket = self._ticket(delay_s, piece, tally)
            if ticket is None:
                return False
            if ticket.verdict is not Verdict.ADMIT:
                self._refused(raw, ticket, piece, tally)
                return True
            error = self._attempt(message, ticket, tally)
            if error is None:
                break
        self._settle(raw, reading, error, piece, tally)
        return True

    def _read(self, raw: RawMessage) -> Reading:
        try:
            headers = headers_of(raw)
        except SystemError:
            return UNREADABLE
        return NORMAL if headers is None else self._reader(headers, time.time())

    def _ticket(self, delay_s: float, piece: Piece, tally: Tally) -> Ticket | None:
        """Ask the gate after a rest, and again while it says wait; None when interrupted."""
        if delay_s and not self._rested(delay_s, piece):
            return None
        ticket = self._gate.enter(time.monotonic())
        while ticket.verdict is Verdict.WAIT:
            tally.verdicts["wait"] += 1
            self._announce_when_due(tally)
            if not self._rested(ticket.wait_s, piece):
                return None
            ticket = self._gate.enter(time.monotonic())
        return ticket

    def _attempt(self, message: Message, ticket: Ticket, tally: Tally) -> BaseException | None:
        """Run the handler once in its lane and tell the gate; return what it raised."""
        started = time.monotonic()
        error = self._call(self._handler, message)
        now = time.monotonic()
        if error is None:
            outcome = Outcome.HANDLED
        else:
            outcome = Outcome.CANCELLED if isinstance(error, asyncio.CancelledError) else Outcome.FAILED
        self._gate.leave(ticket, outcome, now)
        if self._counting:
            tally.seconds.append(now - started)
            tally.verdicts["admit_soft" if ticket.soft else "admit"] += 1
        return error

    def _settle(
        self, raw: RawMessage, reading: Reading, error: BaseException | None, piece: Piece, tally: Tally
    ) -> None:
        if error is not None:
            self._dead_letter(raw, error, piece)
        if self._counting:
            tally.outcomes[Outcome.HANDLED if error is None else Outcome.FAILED] += 1
            if reading is NEAR_MISS:
                tally.reasons[reading.reason] += 1
            self._announce_when_due(tally)

    def _dead_letter(self, raw: RawMessage, error: BaseException, piece: Piece) -> None:
        lane, command = self.binding.lane, self.binding.command
        where = f"topic={raw.topic()} partition={raw.partition()} offset={raw.offset()}"
        self._throttle.say(
            type(error).__name__, f"handler_failed lane={lane} command={command} {where} error={error!r}"
        )
        self.outlets.dead_letter(raw, piece, error)

    def _refused(self, raw: RawMessage, ticket: Ticket, piece: Piece, tally: Tally) -> None:
        tally.verdicts[ticket.verdict] += 1
        if ticket.verdict is Verdict.PARK:
            self.outlets.park(raw, piece)
        tally.outcomes[Outcome.PARKED if ticket.verdict is Verdict.PARK else Outcome.SHED] += 1

    def _aside(self, raw: RawMessage, reading: Reading, piece: Piece, tally: Tally) -> None:
        """Do what is to be done with a message that this lane does not handle."""
        verdict = fate(self.binding.lane, self.binding.shared, reading)
        if verdict is None:
            tally.stepped_over += 1
            return
        outcome, reason = verdict
        if outcome is Outcome.QUARANTINED:
            tally.reasons[reason] += 1
            self.outlets.quarantine(raw, piece, reason)
        tally.outcomes[outcome] += 1

    def _rested(self, seconds: float, piece: Piece) -> bool:
        """Rest; False when the work was called off meanwhile."""
        until = time.monotonic() + seconds
        while not piece.cancelled:
            left = until - time.monotonic()
            if left <= 0:
                return True
            self._stopping.wait(min(left, SLICE_S))
        return False

    def _lost_output(self, piece: Piece) -> Callable[[RawMessage, str], None]:
        return lambda raw, error: self._dead_letter(raw, RuntimeError(error), piece)

    def _announce_when_due(self, tally: Tally) -> None:
        if time.monotonic() >= tally.announce_at:
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
        tally.begin(time.monotonic())
        self._listeners.on(fact)


def _called(handler: Handler, message: Message) -> BaseException | None:
    try:
        handler(message)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is recorded, and the lane goes on
        return error
    return None


def _called_in_lane(handler: Handler, message: Message) -> BaseException | None:
    with entered(message.mark):
        return _called(handler, message)
