"""One message, one straight line: read mark > ask gate > run handler in its lane > tell gate > settle offset.

This is the only place that knows the order. An engine serves one topic in one lane; strands share it, so it keeps no
state of a message. What differs between the lanes (how a handler is called, which messages are whose) is chosen when it
is built, so that a normal message never pays for an ``if shadow``. Traps:

* A handler may raise anything, SystemExit too (``test_a_handler_that_raises_anything_is_recorded_and_the_next_runs``).
* Headers come through ``map``, not by ``raw.headers()``: a warm call of that kind is not checked by the interpreter,
  and hands out the broken list of a message whose header key is not UTF-8
  (``test_a_header_key_that_is_not_utf8_is_quarantined_and_the_log_goes_on``).
* A mark is read when its message's turn has come and looked at again after each rest: it may expire meanwhile
  (``test_a_run_that_ends_while_its_message_waits_is_stepped_over_and_counted``).
* The gate is asked again before each retry, so retries pass the breaker and pay the limiter like any other call.
* A message that produced something is counted as handled once that is delivered, and as failed when it is lost
  (``test_a_message_with_outputs_is_counted_once_they_are_delivered_and_as_failed_when_one_is_lost``).
"""

from __future__ import annotations

import asyncio
from itertools import chain, repeat
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import Message as RawMessage

from shadowstream.events import Carried, Outcome
from shadowstream.gate import OpenGate, Ticket, Verdict
from shadowstream.headers import NEAR_MISS, NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.kafka.clients import Throttle, logger_of
from shadowstream.kafka.engine.fate import fate, foreign
from shadowstream.kafka.engine.tally import Tally
from shadowstream.kafka.message import Message
from shadowstream.kafka.offsets import Piece, offset_of, source
from shadowstream.kafka.outlets import Interrupted, Outlets
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shadowstream.events import Listeners
    from shadowstream.kafka.engine.binding import Binding, Handler
    from shadowstream.kafka.outlets import Headers

__all__ = ["Engine"]

# An enum member looked up on its class costs more than all else that is done for a normal message.
HANDLED: Final = Outcome.HANDLED
FAILED: Final = Outcome.FAILED
CANCELLED: Final = Outcome.CANCELLED
ADMIT: Final = Verdict.ADMIT
WAIT: Final = Verdict.WAIT

TOGETHER: Final = 100
STEPPED_OVER: Final = Reading(Kind.SHADOW, None, "")
SLICE_S = 0.1


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
        self._reader = reader
        self._mine = Kind.NORMAL if binding.lane is Lane.NORMAL else Kind.SHADOW
        self._foreign = foreign(binding.lane, shared=binding.shared)
        self._handler = binding.handler if binding.lane is Lane.NORMAL else _in_lane(binding.handler)
        self._gate = binding.gate
        self._delays = binding.delays_s()
        self._listeners = listeners
        self._attempt = self._chosen()
        self._stopping = stopping
        self._throttle = Throttle(logger_of("engine").warning)

    def _chosen(self) -> Callable[[Message, Tally], Outcome | Ticket]:
        """Choose what one attempt is, once: no message pays for a gate or a clock that nobody needs."""
        if not isinstance(self._gate, OpenGate):
            return self._gated
        needs_time = self.binding.lane is Lane.SHADOW or self._listeners
        return self._timed if needs_time else self._untimed

    def carry(self, piece: Piece) -> None:
        """Carry one piece's messages in order, from the poll to their settled offsets."""
        source.set(piece)
        piece.on_lost_output = self._lost_output(piece)
        tally = Tally(piece)
        # Said before `cancelled` is looked at: whoever cancels looks the other way round.
        piece.running = True
        try:
            self._carry(tally)
        except Interrupted:
            pass
        finally:
            piece.running = False
            piece.close()
            self._announce(tally)

    def _carry(self, tally: Tally) -> None:
        """Carry one message after the other: read mark, ask gate, run handler, tell gate, settle."""
        piece, mine, attempt = tally.piece, self._mine, self._attempt
        for raw, reading in zip(piece.messages, self._readings(piece.messages, tally), strict=False):
            if piece.cancelled:
                return
            if reading.kind is not mine:
                self._aside(raw, reading, tally)
            else:
                message = Message(raw, reading.mark)
                outcome = attempt(message, tally)
                if outcome is not HANDLED:
                    outcome = self._persevere(message, outcome, tally)
                    if outcome is CANCELLED:
                        return
                if piece.outputs or outcome is not HANDLED:
                    self._count(raw, outcome, tally)
            piece.done += 1

    def _readings(self, messages: Sequence[RawMessage], tally: Tally) -> Iterator[Reading]:
        """Tell what each message is; a few are looked at together, so that nobody waits for what comes behind him."""
        shares = (messages[start : start + TOGETHER] for start in range(0, len(messages), TOGETHER))
        return chain.from_iterable(self._read_together(share, tally) for share in shares)

    def _read_together(self, messages: Sequence[RawMessage], tally: Tally) -> Iterable[Reading]:
        """Tell what these messages are; one look is enough where none has a mark, the usual case."""
        asked = cast("Iterator[Headers | None]", map(RawMessage.headers, messages))
        headers: list[Headers | None] = []
        broken: set[int] = set()
        while len(headers) < len(messages):
            try:
                headers.extend(asked)
            except SystemError:
                # What came before the broken one is in the list already, and the client goes on behind it.
                broken.add(len(headers))
                headers.append(None)
        if not broken and self._reader.unmarked(headers):
            return repeat(NORMAL, len(headers))
        return self._read_each(headers, broken, tally)

    def _read_each(self, headers: list[Headers | None], broken: set[int], tally: Tally) -> Iterator[Reading]:
        skims = self._mine is Kind.NORMAL and self.binding.shared
        for number, each in enumerate(headers):
            if skims and self._reader.marked(each):
                # Shadow's to judge (`fate`): what the mark is worth changes nothing here.
                yield STEPPED_OVER
                continue
            reading = UNREADABLE if number in broken else self._reader.read(each, tally.now + tally.wall)
            if reading is NEAR_MISS and self._mine is Kind.NORMAL:
                tally.reasons[reading.reason] += 1
            yield reading

    def _untimed(self, message: Message, tally: Tally) -> Outcome:
        """Run the handler once and take note of whatever it raises; nothing here wants to know the time."""
        try:
            self._handler(message)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is recorded, and the lane goes on
            tally.error = error
            return CANCELLED if isinstance(error, asyncio.CancelledError) else FAILED
        return HANDLED

    def _timed(self, message: Message, tally: Tally) -> Outcome:
        """Run the handler once in its lane, without a gate, and note how long it took."""
        began = tally.now
        if began >= tally.announce_at:
            self._announce(tally)
        outcome = self._untimed(message, tally)
        tally.now = now = monotonic()
        tally.seconds.append(now - began)
        return outcome

    def _gated(self, message: Message, tally: Tally) -> Outcome | Ticket:
        """Ask the gate, run the handler once in its lane, tell the gate; a refusal comes back as its ticket."""
        ticket = self._gate.enter(tally.now)
        if ticket.verdict is not ADMIT:
            return ticket
        outcome = self._timed(message, tally)
        self._gate.leave(ticket, outcome, tally.now)
        if ticket.soft:
            tally.soft += 1
        return outcome

    def _persevere(self, message: Message, result: Outcome | Ticket, tally: Tally) -> Outcome:
        """Go on with a message that was refused or failed at first: wait, retry, give up."""
        delays = iter(self._delays)
        while result is not HANDLED:
            if isinstance(result, Ticket):
                tally.verdicts[result.verdict] += 1
                if result.verdict is not WAIT:
                    return self._refused(message.raw, result, tally.piece)
                rest_s = result.wait_s
            elif (delay_s := next(delays, None)) is not None:
                rest_s = delay_s
            else:
                return self._dead_letter(message.raw, tally.error, tally.piece)
            if tally.now >= tally.announce_at:
                self._announce(tally)
            if not self._rested(rest_s, tally):
                return CANCELLED
            if message.mark is not None and self._reader.stale(message.mark, tally.now + tally.wall):
                return Outcome.EXPIRED
            result = self._attempt(message, tally)
        return HANDLED

    def _dead_letter(self, raw: RawMessage, error: BaseException | None, piece: Piece) -> Outcome:
        """Set a message aside that failed, once, however many of its outputs are lost besides."""
        if piece.fail(raw):
            lane, command = self.binding.lane, self.binding.command
            where = f"topic={raw.topic()} partition={raw.partition()} offset={raw.offset()}"
            self._throttle.say(
                type(error).__name__, f"handler_failed lane={lane} command={command} {where} error={error!r}"
            )
            self.outlets.dead_letter(raw, piece, error or RuntimeError("unknown"))
        return FAILED

    def _refused(self, raw: RawMessage, ticket: Ticket, piece: Piece) -> Outcome:
        if ticket.verdict is Verdict.SHED:
            return Outcome.SHED
        self.outlets.park(raw, piece)
        return Outcome.PARKED

    def _aside(self, raw: RawMessage, reading: Reading, tally: Tally) -> None:
        """Do what is to be done with a message that this lane does not handle."""
        verdict = None if reading.kind in self._foreign else fate(self.binding.lane, self.binding.shared, reading)
        if verdict is None:
            tally.stepped_over += 1
            return
        outcome, reason = verdict
        if outcome is Outcome.QUARANTINED:
            tally.reasons[reason] += 1
            self.outlets.quarantine(raw, tally.piece, reason)
        tally.outcomes[outcome] += 1

    def _rested(self, seconds: float, tally: Tally) -> bool:
        """Rest; False when the work was called off meanwhile."""
        until = tally.tick() + seconds
        while not tally.piece.cancelled:
            if (left := until - tally.tick()) <= 0:
                return True
            self._stopping.wait(min(left, SLICE_S))
        return False

    def _lost_output(self, piece: Piece) -> Callable[[RawMessage, str], object]:
        return lambda raw, error: self._dead_letter(raw, RuntimeError(error), piece)

    def _count(self, raw: RawMessage, outcome: Outcome, tally: Tally) -> None:
        """Count an outcome, unless it depends on outputs that wait to be delivered: `answered` counts those."""
        if tally.piece.ended(offset_of(raw), handled=outcome is HANDLED):
            tally.deferred += 1
        elif outcome is not HANDLED:
            tally.outcomes[outcome] += 1

    def answered(self, partition: int, delivered: int, lost: int) -> None:
        """Count messages that were handled, by what became of their outputs; the owner thread calls it."""
        if self._listeners:
            binding, outcomes = self.binding, {HANDLED: delivered, FAILED: lost}
            told = {outcome: count for outcome, count in outcomes.items() if count}
            self._listeners.on(Carried(binding.lane, binding.topic.name, partition, binding.command, told, 0, {}))

    def _announce(self, tally: Tally) -> None:
        if self._listeners:
            binding = self.binding
            self._listeners.on(tally.told(binding.lane, binding.topic.name, binding.command))


def _in_lane(handler: Handler) -> Handler:
    def run(message: Message) -> None:
        with entered(message.mark):
            handler(message)

    return run
