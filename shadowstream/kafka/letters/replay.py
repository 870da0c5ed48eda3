"""Letters go back to where they came from: read, judge, pace, send, wait for the reports, commit.

A letter goes back as it was first written: key, value, timestamp, headers and mark byte for byte, to the partition it
came from. It is answered for only after its delivery report, and at most a hundred are sent ahead of a commit: that is
what a kill may repeat. Traps:

* The client is a plain producer of the lane: `Producer` would stamp the next hop's mark
  (``test_a_shadow_letter_goes_back_with_its_mark_byte_for_byte``).
* A service's transactional id must not be borrowed: the broker would fence the service itself
  (``test_the_producer_of_a_replay_takes_no_transactional_id``).
* A broker refuses a batch for one message in it, and every letter of the batch is told so: each is sent again by itself
  before it is refused (``test_a_letter_that_the_broker_holds_against_itself_alone_is_refused_and_the_others_go``).
* A mark may expire while its letter waits for the gate, so it is looked at again before it is sent
  (``test_a_letter_whose_run_ends_while_it_waits_for_the_gate_is_not_sent``).
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException

from shadowstream.errors import BrokerError, SetupError
from shadowstream.events import Listeners
from shadowstream.gate import Gates
from shadowstream.headers import MarkReader
from shadowstream.kafka.clients import explained, producer_of
from shadowstream.kafka.letters.letter import Fate, judged
from shadowstream.kafka.letters.pace import Pace
from shadowstream.kafka.letters.progress import BETWEEN_NOTES
from shadowstream.kafka.letters.reading import BoxReader
from shadowstream.kafka.letters.selection import Selection
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event
    from types import TracebackType
    from typing import Self

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import LaneSettings, RateRule, Settings
    from shadowstream.kafka.letters.box import Box
    from shadowstream.kafka.letters.letter import Letter
    from shadowstream.kafka.letters.reading import Span

__all__ = ["Ending", "Orders", "Replay", "Tally"]

REPORTS_S = 30.0
COMMIT_EVERY_S = 0.5
SLICE_S = 0.1
ANY_PARTITION = -1
OF_THE_LETTER: Final = frozenset((
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_TIMESTAMP,
    KafkaError.INVALID_RECORD, KafkaError.POLICY_VIOLATION,
))  # fmt: skip
"""What a broker holds against one letter and not against the next."""


class Ending(StrEnum):
    """Why a replay ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    CLOSED = "closed"
    """Shadow's gate lets nothing through."""
    FULL = "full"
    """So many letters lie unanswered between answered ones that no more of it can be remembered."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What somebody wants replayed, and how."""

    selection: Selection = field(default_factory=Selection)
    rate_per_s: float | None = None
    """Letters per second at most; None: as fast as the lane's gate lets them."""
    command: str | None = None
    """Whose shadow limits apply to letters that name no command that has some; None: the topic's name."""
    again: bool = False
    """Send what an earlier replay has answered for, too."""
    dry_run: bool = False
    """Judge and count; send nothing, remember nothing."""


@dataclass(slots=True)
class Tally:
    """How far a replay came."""

    fates: Counter[Fate] = field(default_factory=Counter)
    """Letters that were meant, by what became of them; with a dry run, by what would."""
    reasons: Counter[tuple[Fate, str]] = field(default_factory=Counter)
    """Why letters were not sent."""
    left: int = 0
    """Letters that nobody meant."""
    known: int = 0
    """Letters among the others that an earlier replay had answered for."""
    ending: Ending = Ending.DONE
    refused_by: str = ""
    """The stage of shadow's gate that is closed."""

    @property
    def sent(self) -> int:
        """Letters that are back where they came from."""
        return self.fates[Fate.SENT]

    @property
    def not_sent(self) -> int:
        """Letters that were meant and could not go back."""
        return sum(self.fates.values()) - self.sent

    def count(self, fate: Fate, reason: str) -> None:
        """Count one letter."""
        self.fates[fate] += 1
        if reason:
            self.reasons[fate, reason] += 1


class Replay:
    """One replay of one box; a context manager that closes its clients.

    Raises:
        BrokerError: the side topic or the source does not exist, or no broker answers.
        ConfigError: the box is shadow's and the shadow lane is off.
        SetupError: the topic takes no part in shadow traffic, or the client refuses a property of the lane.
    """

    def __init__(self, settings: Settings, box: Box, orders: Orders) -> None:
        ours = settings.of(box.lane)
        if box.lane is Lane.SHADOW and not settings.topic(box.topic, box.lane).enabled:
            raise SetupError(
                f"topic {box.topic!r} takes no part in shadow traffic, so nobody would handle what is sent back; set"
                f" `topics: {{{box.topic}: {{enabled: true}}}}`"
            )
        self._box, self._orders = box, orders
        self._rates = ours.rates
        self._marks = MarkReader.of(settings.mark)
        self._pace = Pace(orders.rate_per_s, _limits(ours) if box.lane is Lane.SHADOW else None)
        self._client = producer_of(ours, **{"transactional.id": None})
        self._reader = BoxReader(settings, box)
        self._tally = Tally()
        self._failure: str | None = None
        self._alone: list[Callable[[], None]] = []
        """Sends one letter again that was refused, perhaps for another one in its batch."""
        self._answers = 0
        self._commit_at = 0.0
        try:
            self._sources = self._partitions()
            self._spans = self._reader.spans(again=orders.again)
        except BrokerError:
            self._reader.close()
            raise

    @property
    def waiting(self) -> int:
        """How many letters there are at most."""
        return sum(span.end - span.start for span in self._spans)

    def run(self, stopping: Event, told: Callable[[Tally], object] = lambda _: None) -> Tally:
        """Send the letters back until they are done or ``stopping`` is set; ``told`` hears after each commit.

        Raises:
            BrokerError: the brokers failed us; what was delivered before is committed.
        """
        for span in self._spans:
            self._replay(span, stopping, told)
            if self._tally.ending is not Ending.DONE:
                break
        return self._tally

    def close(self) -> None:
        """Close the clients; what is not delivered by now is not sent any more."""
        self._client.purge()
        self._client.poll(0)
        self._reader.close()
        self._pace.close()

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the clients."""
        self.close()

    def _partitions(self) -> list[int]:
        found = self._reader.topics().get(self._box.source)
        if found is None:
            raise BrokerError(
                f"no topic {self._box.source} on this cluster, so letters of {self._box.place} cannot go back; create"
                f" it, or correct the name (or `route:`) of {self._box.topic} under `topics:`"
            )
        return found

    def _replay(self, span: Span, stopping: Event, told: Callable[[Tally], object]) -> None:
        try:
            self._carry_all(span, stopping, told)
        except Exception:
            # What was delivered must be remembered, whatever else failed; two failures are told as the first one.
            self._settle_quietly(span)
            raise
        self._settle(span, told)

    def _carry_all(self, span: Span, stopping: Event, told: Callable[[Tally], object]) -> None:
        after = span.start
        for letter in self._reader.read(span):
            if stopping.is_set():
                self._tally.ending = Ending.INTERRUPTED
                return
            if not self._carry(letter, span, stopping):
                return
            if self._answers >= BETWEEN_NOTES or time.monotonic() >= self._commit_at:
                self._settle(span, told)
                if self._tally.ending is not Ending.DONE:
                    return
            after = letter.offset + 1
        span.progress.passed(after, span.start)

    def _carry(self, letter: Letter, span: Span, stopping: Event) -> bool:
        """Do with one letter what is to be done; False when the replay is to end before it."""
        reading = letter.mark(self._marks, time.time())
        if not self._orders.selection.takes(letter, reading):
            self._tally.left += 1
        elif not self._orders.again and span.progress.knows(letter.offset):
            self._tally.known += 1
        elif self._orders.dry_run:
            self._tally.count(*judged(letter, reading))
        else:
            return self._dispatched(letter, judged(letter, reading), span, stopping)
        return True

    def _dispatched(self, letter: Letter, fate: tuple[Fate, str], span: Span, stopping: Event) -> bool:
        if fate[0] is Fate.SENT:
            if not self._paced(letter, stopping):
                return False
            fate = judged(letter, letter.mark(self._marks, time.time()))
        self._answers += 1
        if fate[0] in {Fate.SENT, Fate.QUARANTINED}:
            self._send(letter, span, fate, alone=False)
        else:
            self._answered(letter, span, fate)
        return True

    def _paced(self, letter: Letter, stopping: Event) -> bool:
        """Wait until the letter may go; False when it may not any more."""
        told = letter.story.command
        command = told if told is not None and told in self._rates else self._orders.command or self._box.topic
        while wait_s := self._pace.ask(command, time.monotonic()):
            if self._pace.closed:
                self._tally.ending, self._tally.refused_by = Ending.CLOSED, self._pace.refused_by
                return False
            if self._stopped_within(wait_s, stopping):
                self._tally.ending = Ending.INTERRUPTED
                return False
        return True

    def _stopped_within(self, seconds: float, stopping: Event) -> bool:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._client.poll(0)
            if stopping.wait(min(left_s, SLICE_S)):
                return True
        return stopping.is_set()

    def _send(self, letter: Letter, span: Span, fate: tuple[Fate, str], *, alone: bool) -> None:
        """Queue one letter; ``alone`` when nothing else is on its way, so that what the broker says is about it."""
        back = fate[0] is Fate.SENT
        # A partitioner of another client may choose otherwise than ours, so the partition is taken from the letter.
        told = letter.story.partition if back else None
        given: Any = letter.onward if back else letter.quarantined(fate[1])
        reported = partial(self._reported, letter, span, fate, alone)
        while True:
            try:
                self._client.produce(
                    self._box.source if back else self._box.quarantine,
                    letter.raw.value(),
                    letter.raw.key(),
                    partition=told if told is not None and told in self._sources else ANY_PARTITION,
                    timestamp=letter.timestamp_ms,
                    headers=given,
                    on_delivery=reported,
                )
            except BufferError:
                self._client.poll(SLICE_S)
            except KafkaException as error:
                return reported(error.args[0])
            else:
                return None

    def _reported(
        self,
        letter: Letter,
        span: Span,
        fate: tuple[Fate, str],
        alone: bool,  # noqa: FBT001 - bound by position, as the client appends its own
        error: KafkaError | None,
        _message: RawMessage | None = None,
    ) -> None:
        """Take note of what became of one letter; one that was not delivered stays unanswered."""
        if error is None:
            self._answered(letter, span, fate)
        elif error.code() not in OF_THE_LETTER:
            aim = self._box.source if fate[0] is Fate.SENT else self._box.quarantine
            self._failure = self._failure or f"the letter at {letter.place} did not reach {aim}: {explained(error)}"
        elif alone:
            self._answered(letter, span, (Fate.REFUSED, error.name().lower()))
        else:
            self._alone.append(partial(self._send, letter, span, fate, alone=True))

    def _answered(self, letter: Letter, span: Span, fate: tuple[Fate, str]) -> None:
        # What lies before it and is no letter goes with it; behind it nobody knows yet what comes.
        span.progress.passed(letter.since, letter.offset + 1)
        self._tally.count(*fate)

    def _settle(self, span: Span, told: Callable[[Tally], object]) -> None:
        """Wait for the reports and keep what is answered for."""
        left = self._flushed()
        if not self._orders.dry_run:
            self._reader.commit(span)
        self._answers, self._commit_at = 0, time.monotonic() + COMMIT_EVERY_S
        told(self._tally)
        if left:
            self._failure = self._failure or f"no report for {left} letters within {REPORTS_S:g} s; they may arrive yet"
        if self._failure is not None:
            raise BrokerError(
                f"{self._box.place}: {self._failure}; {self._tally.sent} were sent before and are remembered, so begin"
                " again when the brokers answer"
            )
        if span.progress.full and self._tally.ending is Ending.DONE:
            self._tally.ending = Ending.FULL

    def _flushed(self) -> int:
        """Wait for the reports, and for those of letters that go again by themselves; return how many never came."""
        left = self._client.flush(REPORTS_S)
        while self._alone and not left:
            self._alone.pop(0)()
            left = self._client.flush(REPORTS_S)
        return left

    def _settle_quietly(self, span: Span) -> None:
        if self._failure is not None or self._orders.dry_run:
            return
        self._flushed()
        with suppress(BrokerError):
            self._reader.commit(span)


def _limits(ours: LaneSettings) -> Gates:
    """Return the lane's limits; whether a run may go on is asked when its messages are handled.

    So is which part of a rate is whose: a replay goes by the whole.
    """
    fleet = None if ours.fleet is None else replace(ours.fleet, lease=False)
    rates = {command: _whole(rate) for command, rate in ours.rates.items()}
    return Gates(replace(ours, fleet=fleet, rates=rates, default_rate=_whole(ours.default_rate)), Listeners())


def _whole(rate: RateRule | None) -> RateRule | None:
    return None if rate is None else replace(rate, by_partitions=False)
