"""One message, one straight line: read mark > ask gate > run handler in its lane > tell gate > settle offset.

This is the only place that knows the order. An engine serves one topic in one lane; hands share it, so it keeps no
state of a message. The line is a coroutine for sync handlers too: with them nothing in it suspends, except a rest
before another attempt, and a thread carries it by ``send(None)``. Traps:

* A mark is looked at again after each rest, and before each batch: it may expire meanwhile
  (``test_a_run_that_ends_while_its_message_waits_is_stepped_over_and_counted``,
  ``test_a_run_that_ends_while_another_batch_of_its_share_is_carried_is_stepped_over_and_counted``).
* The gate is asked again before each retry, so retries pass the breaker and pay the limiter like any other call.
* A message that produced something is counted as handled once that is delivered, and as failed when it is lost
  (``test_a_message_with_outputs_is_counted_once_they_are_delivered_and_as_failed_when_one_is_lost``).
* A batch that fails to the end is tried message by message, or one bad message would take the others with it
  (``test_a_batch_that_fails_is_tried_message_by_message``).
* Work that is called off still steps over the other lane's messages, or a clean stop would leave the group standing
  before what is handled (``test_work_that_is_called_off_ends_at_the_next_message_of_its_own``).
* Work may be called off between two batches of one share: what is left is read again, what is done is not
  (``test_of_batches_that_are_called_off_the_finished_ones_are_not_read_again``).
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from shadowstream.events import Carried, Outcome
from shadowstream.gate import Ticket, Verdict
from shadowstream.headers import UNREADABLE, Kind
from shadowstream.kafka.clients import Throttle, logger_of
from shadowstream.kafka.engine.attempt import CANCELLED, EXPIRED, FAILED, HANDLED, WAIT, Attempts, is_async
from shadowstream.kafka.engine.fate import fate, foreign
from shadowstream.kafka.engine.overdue import Watch
from shadowstream.kafka.engine.reading import Readings
from shadowstream.kafka.engine.settling import ByHand, Desk, ReturnedByHand
from shadowstream.kafka.engine.tally import Tally
from shadowstream.kafka.labels import Story
from shadowstream.kafka.letters.story import story_of
from shadowstream.kafka.message import Batch, Message, first_of
from shadowstream.kafka.offsets import Piece, offset_of, source
from shadowstream.kafka.outlets import Interrupted, headers_of
from shadowstream.kafka.resting import Returned, Returns, due_after, rest_s, so_far
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from confluent_kafka import Message as RawMessage

    from shadowstream.events import Listeners
    from shadowstream.headers import MarkReader, Reading
    from shadowstream.kafka.engine.attempt import Result, Work
    from shadowstream.kafka.engine.binding import Binding
    from shadowstream.kafka.outlets import Outlets
    from shadowstream.kafka.strands.hands import Hands
    from shadowstream.lane import Mark

__all__ = ["Engine"]


class Engine:
    """Carries the messages of one topic in one lane."""

    def __init__(self, binding: Binding, reader: MarkReader, outlets: Outlets, listeners: Listeners) -> None:
        self.binding = binding
        self.outlets = outlets
        self.desk = Desk(outlets, binding.clock)
        self.unsettled = self.desk.unsettled if binding.shelf is None else binding.shelf.weight
        self._mine = Kind(binding.lane.value)
        self._foreign = foreign(binding.lane, shared=binding.shared)
        self._reader = reader
        self._readings: Readings | Returns = Returns(reader) if binding.returns else Readings(binding, reader)
        self._message = Returned if binding.returns else Message
        self._by_hand = ReturnedByHand if binding.returns else ByHand
        self._listeners = listeners
        self._watch = _watch_of(binding, listeners)
        self.regate()
        line = self._carry if binding.batch is None else self._carry_batches
        self._line = partial(self._carry_when_due, line) if binding.returns else line
        self._throttle = Throttle(logger_of("engine").warning)

    def regate(self) -> None:
        """Ask for the command's gate anew, for the pieces that begin from now on; called from any thread."""
        timed = self.binding.lane is Lane.SHADOW or bool(self._listeners)
        self._attempt = Attempts(self.binding, self._announce, self._watch, timed=timed).attempt

    def serve(self) -> None:
        """Take delivery reports and look for calls that are overdue; the owner thread calls it on every turn."""
        self.outlets.serve()
        if self._watch is not None:
            self._watch.look(self.binding.clock.monotonic())

    async def carry(self, piece: Piece, hands: Hands) -> None:
        """Carry one piece's messages in order, from the poll to their settled offsets."""
        source.set(piece)
        piece.on_lost_output = self._lost_output(piece)
        tally = Tally(piece, hands, self.binding.clock)
        # Said before `cancelled` is looked at: whoever cancels looks the other way round.
        piece.running = True
        try:
            await self._line(tally)
        except Interrupted:
            pass
        finally:
            piece.running = False
            piece.close()
            self._announce(tally)

    async def _carry(self, tally: Tally) -> None:
        """Carry one message after the other: read mark, ask gate, run handler, tell gate, settle."""
        piece, mine = tally.piece, self._mine
        made = self.desk.maker(piece, self._by_hand) if self.binding.by_hand else self._message
        for raw, reading in zip(piece.messages, self._readings.of(piece.messages, tally), strict=False):
            if piece.cancelled and reading.kind not in self._foreign:
                return
            if reading.kind is not mine:
                self._aside(raw, reading, tally)
            else:
                message = made(raw, reading.mark)
                outcome = self._attempt(message, tally)
                if outcome is not HANDLED:
                    outcome = await self._persevere(message, outcome, tally)
                    if outcome is CANCELLED:
                        return
                if piece.ends or outcome is not HANDLED:
                    self._count(message, outcome, tally)
            piece.done += 1

    async def _carry_when_due(self, line: Callable[[Tally], Awaitable[None]], tally: Tally) -> None:
        """Let a retry topic's message, a piece by itself, rest until it is due, then carry it as any other."""
        piece = tally.piece
        (raw,) = piece.messages
        try:
            story = story_of(headers_of(raw) or ())
        except SystemError:
            # Its headers must not be asked for again.
            self._aside(raw, UNREADABLE, tally)
            piece.done += 1
            return
        if story.left_out:
            self._bury(raw, tally)
            return
        if (seconds := rest_s(story, tally.unix())) > 0:
            await tally.hands.rest(seconds, piece)
            tally.look(self.binding.clock)
        await line(tally)

    def _bury(self, raw: RawMessage, tally: Tally) -> None:
        """Dead-letter a message that was too large to rest with its value: it must never be handled without."""
        (reading,) = self._readings.of([raw], tally)
        if reading.kind is self._mine:
            self.outlets.bury(raw, tally.piece)
            tally.outcomes[FAILED] += 1
        else:
            self._aside(raw, reading, tally)
        tally.piece.done += 1

    async def _carry_batches(self, tally: Tally) -> None:
        """Do the same with several messages for each call of the handler."""
        piece, size = tally.piece, self.binding.batch or 1
        while piece.done < piece.count and not piece.cancelled:
            share = piece.messages[piece.done : piece.done + size]
            batches = deque(self._sorted_out(share, tally))
            while batches and not piece.cancelled:
                batches.extendleft(reversed(await self._carry_batch(batches.popleft(), tally)))
            piece.leave([message.raw for batch in batches for message in batch])
            tally.deferred += len(piece.left)
            piece.done += len(share)

    def _sorted_out(self, share: Sequence[RawMessage], tally: Tally) -> list[Batch]:
        """Set aside what is not ours, and put together what carries the same mark."""
        together: defaultdict[Mark | None, list[Message]] = defaultdict(list)
        for raw, reading in zip(share, self._readings.of(share, tally), strict=False):
            if reading.kind is not self._mine:
                self._aside(raw, reading, tally)
            else:
                together[reading.mark].append(self._message(raw, reading.mark))
        return [Batch(messages, mark) for mark, messages in together.items()]

    async def _carry_batch(self, batch: Batch, tally: Tally) -> list[Batch]:
        """Carry some messages together; returns what is left to be done: all when the work was called off."""
        tally.piece.give([message.raw for message in batch])
        outcome = EXPIRED if self._stale(batch, tally) else self._attempt(batch, tally)
        if outcome is not HANDLED and outcome is not EXPIRED:
            outcome = await self._persevere(batch, outcome, tally, () if batch.alone else None)
        if outcome is CANCELLED:
            return [batch]
        if outcome is FAILED and len(batch) > 1:
            return [Batch([message], batch.mark, alone=True) for message in batch]
        self._count(batch[0], outcome, tally, len(batch))
        return []

    async def _persevere(
        self, work: Work, result: Result | Awaitable[Result], tally: Tally, delays_s: Iterable[float] | None = None
    ) -> Outcome:
        """Go on with a message that was refused or failed at first: wait, retry, give up."""
        delays = iter(self.binding.delays_s() if delays_s is None else delays_s)
        story = self._story(first_of(work).raw)
        while True:
            if not isinstance(result, Outcome | Ticket):
                result = await result
            if result is HANDLED or (isinstance(work, ByHand) and work.settled):
                return HANDLED
            if tally.now >= tally.announce_at:
                self._announce(tally)
            if isinstance(result, Ticket):
                tally.verdicts[result.verdict] += 1
                if result.verdict is not WAIT:
                    return self._refused(work, result, tally.piece)
                await tally.hands.wait(result.wait_s, tally.piece)
            else:
                story = story.failed(tally.unix())
                if (delay_s := next(delays, None)) is None:
                    return self._given_up(work, tally, story)
                await tally.hands.rest(delay_s, tally.piece)
            tally.tick()
            if tally.piece.cancelled:
                return CANCELLED
            if self._stale(work, tally):
                return EXPIRED
            result = self._attempt(work, tally)

    def _stale(self, work: Work, tally: Tally) -> bool:
        return work.mark is not None and self._reader.stale(work.mark, tally.unix())

    def _given_up(self, work: Work, tally: Tally, story: Story) -> Outcome:
        """Let what failed to the end rest, or dead-letter it; a batch of several is left to be tried apart."""
        if not isinstance(work, Message) and len(work) > 1:
            return FAILED
        raw, error = first_of(work).raw, tally.error or RuntimeError("unknown")
        if story.rounds < self.binding.topic.rounds:
            return self._let_rest(raw, error, tally.piece, story)
        self._dead_letter(raw, error, tally.piece, story)
        return FAILED

    def _let_rest(self, raw: RawMessage, error: BaseException, piece: Piece, story: Story) -> Outcome:
        """Send a message to its retry topic, unless it is dead-lettered already for an output that was lost."""
        if not piece.fail(raw):
            return FAILED
        due_at = due_after(story.failed_at, self.binding.topic.rest_s, self.binding.clock.chance())
        story = replace(story, rounds=story.rounds + 1, due_at=due_at)
        self._say_failed(raw, error, story)
        self.outlets.retry(raw, piece, error, story)
        return Outcome.RETRIED

    def _dead_letter(self, raw: RawMessage, error: BaseException, piece: Piece, story: Story) -> None:
        """Set a message aside that failed, once, however many of its outputs are lost besides."""
        if piece.fail(raw):
            self._say_failed(raw, error, story)
            self.outlets.dead_letter(raw, piece, error, story)

    def _say_failed(self, raw: RawMessage, error: BaseException, story: Story) -> None:
        where = f"topic={raw.topic()} partition={raw.partition()} offset={raw.offset()} round={story.rounds}"
        line = f"handler_failed lane={story.lane} command={story.command} {where} error={error!r}"
        self._throttle.say(type(error).__name__, line)

    def _story(self, raw: RawMessage) -> Story:
        """Begin a message's story, or go on where its last round has left it."""
        blank = Story(self.binding.command, self.binding.lane)
        return so_far(blank, story_of(headers_of(raw) or ())) if self.binding.returns else blank

    def _refused(self, work: Work, ticket: Ticket, piece: Piece) -> Outcome:
        if ticket.verdict is Verdict.SHED:
            return Outcome.SHED
        for message in [work] if isinstance(work, Message) else work:
            self.outlets.park(message.raw, piece)
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

    def _lost_output(self, piece: Piece) -> Callable[[RawMessage, str], object]:
        now = self.binding.clock.wall
        return lambda raw, error: self._dead_letter(raw, RuntimeError(error), piece, self._story(raw).failed(now()))

    def _count(self, message: Message, outcome: Outcome, tally: Tally, messages: int = 1) -> None:
        """Count an outcome, unless it depends on what is still held: `answered` counts those."""
        if tally.piece.ended(offset_of(message.raw), outcome):
            tally.deferred += messages
        elif outcome is not HANDLED:
            tally.outcomes[outcome] += messages
            if isinstance(message, ByHand) and self.desk.took(message):
                message.let_go()

    def answered(self, partition: int, outcomes: Counter[Outcome]) -> None:
        """Count messages whose end was learned late; the owner thread calls it."""
        if self._listeners:
            binding = self.binding
            self._listeners.on(Carried(binding.lane, binding.topic.name, partition, binding.command, outcomes, 0, {}))

    def _announce(self, tally: Tally) -> None:
        if self._listeners:
            binding = self.binding
            self._listeners.on(tally.told(binding.lane, binding.topic.name, binding.command))


def _watch_of(binding: Binding, listeners: Listeners) -> Watch | None:
    """Have the calls of a sync handler watched that has a timeout: an async one is cancelled."""
    if binding.timeout_s is None or is_async(binding.handler):
        return None
    return Watch(binding, binding.timeout_s, listeners)
