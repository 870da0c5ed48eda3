"""A lane's transactions on a thread of their own, one for each, so that polling goes on meanwhile.

Traps:

* The client's ``send_offsets_to_transaction`` may block for much longer than it was told, and for ever when a
  coordinator goes at the wrong moment (librdkafka #5456, #5511). Nobody can call it back. So the client is left where
  it hangs, and another one takes its id over: that fences the old one and ends what it left open. This is done only
  while nobody has asked for the commit, or it might have happened
  (``test_a_broker_that_is_started_again_in_the_midst_of_transactions_costs_no_output_and_no_lane``).
* A commit that is not answered for long ends the lane: what is committed is known after a new start.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from shadowstream.errors import BrokerError
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.transactions.transaction import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import TopicPartition

    from shadowstream.kafka.clock import Clock
    from shadowstream.kafka.transactions.outbox import Output
    from shadowstream.kafka.transactions.transaction import Transaction

__all__ = ["Aside"]

log = logger_of("transactions")

SLICE_S = 0.5
REST_S = 0.02
PATIENCE_S = 5.0
"""How long a transaction is waited for before another client is tried."""
LONGEST_S = 30.0
"""How long a commit is waited for before the lane ends."""


class Run:
    """One transaction under way."""

    def __init__(self, outputs: list[Output], offsets: list[TopicPartition], member: object) -> None:
        self.said = outputs, offsets, member
        self.began_at: float | None = None
        """Monotonic seconds; None while its producer has no hold of its id yet."""
        self.called_off: KafkaError | None = None
        """Why it is not to begin at all."""
        self.over = Event()
        self.ending: Ending | None = None
        self.error: BaseException | None = None


class Aside:
    """Does what a `Transaction` does, without making its caller wait; ``make`` makes one with a client of its own."""

    def __init__(self, make: Callable[[], Transaction], clock: Clock) -> None:
        self._make = make
        self._now = clock.monotonic
        self._transaction = make()
        self._is_ready = False
        self._run: Run | None = None
        self._throttle = Throttle(log.warning)

    def ready(self, seconds: float) -> KafkaError | None:
        """Take the transactional id over; returns why not yet.

        Raises:
            BrokerError: it cannot be had.
        """
        error = self._transaction.ready(seconds)
        self._is_ready = error is None
        return error

    def begin(self, outputs: list[Output], offsets: list[TopicPartition], member: object) -> None:
        """Begin a transaction; the last one has ended."""
        self._run = run = Run(outputs, offsets, member)
        Thread(target=self._carry, args=(run, self._transaction), name="transaction", daemon=True).start()

    def go_on(self, seconds: float) -> Ending | None:
        """Wait for its end, at most some seconds; None while it has not ended.

        Raises:
            BrokerError: it cannot go on, or nobody knows whether it is committed.
        """
        run = self._run
        if run is None:
            return None
        if not run.over.wait(seconds):
            return self._looked_after(run)
        if run.error is not None:
            raise run.error
        return run.ending

    def call_off(self, error: KafkaError) -> bool:
        """Let it be aborted; False when its commit was asked for: that goes on."""
        run = self._run
        if run is not None and run.began_at is None:
            run.called_off = error
            return True
        return self._transaction.call_off(error)

    def _looked_after(self, run: Run) -> Ending | None:
        """See whether it has taken too long, and leave it where it is if that is safe."""
        lasted_s = 0.0 if run.began_at is None else self._now() - run.began_at
        if lasted_s < PATIENCE_S:
            return None
        error = KafkaError(KafkaError.REQUEST_TIMED_OUT, f"not ended within {PATIENCE_S:g} s")
        if self._transaction.call_off(error):
            log.warning("transaction_left_behind: its client does not return; another one takes its id over")
            self._transaction, self._is_ready = self._make(), False
            return Ending(error)
        if lasted_s < LONGEST_S:
            return None
        raise BrokerError(
            f"a commit was not answered for {LONGEST_S:g} s, so nobody knows whether it has happened; check the"
            " brokers, and start the lane anew: it goes on from what is committed"
        )

    def _carry(self, run: Run, transaction: Transaction) -> None:
        try:
            while not self._is_ready and (error := self.ready(SLICE_S)) is not None:
                self._throttle.say("ready", f"transactions_not_ready error={explained(error)!r}")
            run.began_at = self._now()
            run.ending = self._ended(run, transaction) if run.called_off is None else Ending(run.called_off)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the owner is told
            run.error = error
        finally:
            run.over.set()

    @staticmethod
    def _ended(run: Run, transaction: Transaction) -> Ending:
        transaction.begin(*run.said)
        while (ending := transaction.go_on(SLICE_S)) is None:
            transaction.rest(REST_S)
        return ending
