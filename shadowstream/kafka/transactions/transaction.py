"""One transaction at a time, step by step: begin, produce, send the offsets, commit; or abort.

Each step is asked for with a bound, and asked for again when the brokers have not answered by then: the client goes on
where it was. Traps:

* A commit whose answer is late is asked for again and never done anew: it may have happened
  (``test_a_commit_that_is_not_answered_is_asked_for_again_and_happens_once``).
* A refused batch is refused for one message in it: an output that goes alone is flushed by itself
  (``test_an_output_too_large_for_the_broker_dead_letters_its_source_and_no_other``).
* The coordinator fences a producer whose transaction lasted too long just as one whose id somebody else took: neither
  can go on.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from shadowstream.errors import BrokerError
from shadowstream.kafka.clients import explained

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message as RawMessage
    from confluent_kafka import Producer as RawProducer
    from confluent_kafka import TopicPartition

    from shadowstream.kafka.clock import Clock
    from shadowstream.kafka.transactions.outbox import Output
    from shadowstream.lane import Lane

__all__ = ["Ending", "Transaction"]

TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - the client's own errors begin with an underscore
INVALID_ARG = KafkaError._INVALID_ARG  # noqa: SLF001 - as above
FENCED = frozenset({
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,  # noqa: SLF001 - as above
})  # fmt: skip
FULL_S = 0.01
"""How long to wait for room in the client's queue."""


class Step(Enum):
    """What is to be done next."""

    IDLE = "idle"
    FILLING = "filling"
    SENDING = "sending"
    COMMITTING = "committing"
    ABORTING = "aborting"


class Ending(NamedTuple):
    """How a transaction ended."""

    error: KafkaError | None
    """Why it was aborted; None: it is committed."""


class Transaction:
    """The transactions of one lane, one after the other; one thread at a time."""

    def __init__(self, client: RawProducer, name: str, lane: Lane, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._lane = lane
        self._now = clock.monotonic
        self._step = Step.IDLE
        self._lock = Lock()
        """Guards the moment when a transaction can no longer be called off."""
        self._outputs: list[Output] = []
        self._waiting: deque[Output] = deque()
        """Those that the client has not been given yet."""
        self._offsets: list[TopicPartition] = []
        self._by_itself = False
        """Whether the output that was produced last is to stay alone in its batch."""
        self._member: object = None
        self._turn = object()
        self._failed: KafkaError | None = None
        self._called_off: KafkaError | None = None

    def ready(self, seconds: float) -> KafkaError | None:
        """Take the transactional id over from whoever had it, and end what was left open; returns why not yet.

        Raises:
            BrokerError: it cannot be had.
        """
        try:
            self._client.init_transactions(seconds)
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if not _passes(error):
                raise self._ended(error) from raised
            return error
        return None

    def begin(self, outputs: list[Output], offsets: list[TopicPartition], member: object) -> None:
        """Begin one with these outputs and offsets of a consumer, known by its membership; `go_on` does the rest.

        Raises:
            BrokerError: no transaction can be begun any more.
        """
        self._outputs, self._waiting, self._offsets = outputs, deque(outputs), offsets
        self._member, self._by_itself = member, False
        self._failed = self._called_off = None
        self._turn = object()
        for output in outputs:
            output.turn, output.error, output.report = self._turn, None, None
        try:
            self._client.begin_transaction()
        except KafkaException as raised:
            raise self._ended(raised.args[0]) from raised
        self._step = Step.FILLING

    def go_on(self, seconds: float) -> Ending | None:
        """Go on for some seconds; None while it has not ended.

        Raises:
            BrokerError: this producer is fenced, or can do nothing any more.
        """
        until = self._now() + seconds
        while self._step is not Step.IDLE:
            before = self._step
            self._take(before, max(until - self._now(), 0.0))
            if self._called_off is not None and self._step in {Step.FILLING, Step.SENDING}:
                self._abort(self._called_off)
            if self._step is before:
                return None
        return Ending(self._failed)

    def call_off(self, error: KafkaError) -> bool:
        """Let it be aborted, from any thread; False when its commit was asked for: that goes on."""
        with self._lock:
            safe = self._step in {Step.FILLING, Step.SENDING, Step.ABORTING}
            self._called_off = error if safe else None
        return safe

    def rest(self, seconds: float) -> None:
        """Wait a moment before the brokers are asked again."""
        self._client.poll(seconds)

    def _take(self, step: Step, seconds: float) -> None:
        """Do one step; where it has not happened in time, it stays the next one."""
        if step is Step.FILLING:
            self._fill(self._now() + seconds)
        elif step is Step.SENDING:
            if self._asked(partial(self._client.send_offsets_to_transaction, self._offsets, self._member, seconds)):
                self._to_commit()
        elif self._asked(partial(self._end(), seconds)):
            self._step = Step.IDLE

    def _to_commit(self) -> None:
        """Go on to the commit, unless somebody has called it off: from here on nobody can."""
        with self._lock:
            if self._called_off is None:
                self._step = Step.COMMITTING

    def _end(self) -> Callable[[float], object]:
        return self._client.commit_transaction if self._step is Step.COMMITTING else self._client.abort_transaction

    def _asked(self, call: Callable[[], object]) -> bool:
        """Ask the brokers; False when they have to be asked again, or the transaction has failed."""
        try:
            call()
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if error.fatal() or error.code() in FENCED:
                raise self._ended(error) from raised
            if not _passes(error):
                if self._step is Step.ABORTING:
                    raise self._ended(error) from raised
                self._abort(error)
            return False
        return True

    def _abort(self, error: KafkaError) -> None:
        self._failed, self._step = error, Step.ABORTING

    def _fill(self, until: float) -> None:
        """Give the client the outputs; what it refuses at once is as bad as what is not delivered."""
        while self._waiting:
            output = self._waiting[0]
            if self._is_apart(output, until) and self._queued(output):
                self._waiting.popleft()
                self._by_itself = output.alone
            elif self._now() >= until:
                return
        refused = next((output.error for output in self._outputs if output.error is not None), None)
        if refused is None:
            self._step = Step.SENDING
        else:
            self._abort(refused)

    def _is_apart(self, output: Output, until: float) -> bool:
        """See that an output which goes alone shares its batch neither with what is before nor with what is behind."""
        if not output.alone and not self._by_itself:
            return True
        return self._client.flush(max(until - self._now(), 0.0)) == 0

    def _queued(self, output: Output) -> bool:
        """Give one output to the client; False when its queue is full."""
        told = partial(_delivered, output, self._turn)
        try:
            self._client.produce(
                output.topic, output.value, output.key, output.partition, told, None, output.timestamp, output.headers
            )
        except BufferError:
            self._client.poll(FULL_S)
            return False
        except KafkaException as raised:
            output.error = raised.args[0]
        except Exception as raised:  # noqa: BLE001 - whatever is wrong with it, it is this output's own fault
            output.error = KafkaError(INVALID_ARG, repr(raised))
        return True

    def _ended(self, error: KafkaError) -> BrokerError:
        what = f"lane {self._lane}: transactions under the id {self._name} cannot go on: {explained(error)}"
        if error.code() in FENCED:
            what += (
                "; another process took the id, or one transaction lasted longer than transaction.timeout.ms: give each"
                " process a group.instance.id of its own, or none"
            )
        return BrokerError(what)


def _passes(error: KafkaError) -> bool:
    """Tell whether asking again can help."""
    lasting = error.fatal() or error.txn_requires_abort()
    return not lasting and (error.retriable() or error.code() == TIMED_OUT)


def _delivered(output: Output, turn: object, error: KafkaError | None, report: RawMessage) -> None:
    # A client that was left behind tells of its messages when they are in another one's hands.
    if output.turn is turn:
        output.error, output.report = error, report
