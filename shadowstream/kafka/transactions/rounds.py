"""What goes into the lane's next transaction, and what happens after its end; the owner thread only.

Traps:

* Outputs of an aborted transaction go into the next one: their handlers are not called again
  (``test_an_aborted_transaction_is_done_anew_and_no_handler_runs_twice``).
* A partition with a copy that cannot be delivered has transactions of its own, or it would hold up all others
  (``test_a_dead_letter_that_cannot_be_delivered_holds_up_its_own_partition_only``).
* A consumer that was put out of its group, and has not been told yet, may commit for a group without being a member of
  it: brokers let that pass, as from an administrator. So the offsets are sent by members only
  (``test_a_consumer_that_was_put_out_commits_nothing``).
* When nobody knows how a transaction ended, none may follow it: its offsets would be taken for done, and its outputs
  may be lost (``test_after_a_transaction_of_unknown_end_none_is_begun``).
* The offsets are sent with the membership of the moment when the books were looked at: whatever changes afterwards, the
  brokers refuse what was true before (``test_a_member_that_was_replaced_while_it_stood_still_commits_nothing``).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError, TopicPartition

from shadowstream.errors import BrokerError
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.transactions.failures import findings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from threading import Event

    from shadowstream.kafka.cursor.commits import Commits
    from shadowstream.kafka.cursor.parts import Parts, Place
    from shadowstream.kafka.offsets import Due, Window
    from shadowstream.kafka.transactions.aside import Aside
    from shadowstream.kafka.transactions.ledger import Entry, Ledger
    from shadowstream.kafka.transactions.transaction import Transaction

__all__ = ["Rounds"]

log = logger_of("transactions")

READY_S = 0.5
FINISH_S = 5.0
"""How long a revoke or a stop waits for the last transaction, once handlers have ended."""
CALL_OFF_S = 1.0
RETRY_S = 0.5
CROWDED = 0.5
"""How full a shelf is when its outputs are not kept until the next commit is due."""
CROWDED_S = 0.02


class Share(NamedTuple):
    """One partition's part of a transaction."""

    place: Place
    due: Due
    ledger: Ledger
    entries: list[Entry]


class Rounds:
    """Makes one transaction after the other of what the lane's hands have finished."""

    def __init__(self, transaction: Transaction | Aside, parts: Parts, books: Commits) -> None:
        self._transaction = transaction
        self._parts = parts
        self._books = books
        self._shelves = parts.shelves
        self._now = parts.clock.monotonic
        self._nobody: object = None
        """The membership of a consumer that is in no group."""
        self._open: list[Share] = []
        """What is in the open transaction; empty while there is none."""
        self._next: deque[list[Place]] = deque()
        """Partitions that get a transaction together."""
        self._slow: dict[Place, float] = {}
        """Partitions that get one of their own, with a copy that could not be delivered, and when to try again."""
        self._at = self._not_before = 0.0
        self._over: BrokerError | None = None
        """Why no transaction is begun any more: what was in the last one may be neither committed nor aborted."""
        self._throttle = Throttle(log.warning)

    def begin(self, stopped: Event) -> None:
        """Take over the transactional id, before anything is read: what a predecessor left open is ended by that.

        Raises:
            BrokerError: it cannot be had.
        """
        self._nobody = self._parts.consumer.consumer_group_metadata()
        while not stopped.is_set() and (error := self._transaction.ready(READY_S)) is not None:
            self._throttle.say("begin", f"transactions_not_ready lane={self._parts.lane} error={explained(error)!r}")

    def tick(self, now: float) -> None:
        """Go on with the open transaction, and begin one when it is time.

        Raises:
            BrokerError: this lane's transactions cannot go on.
        """
        if self._over is not None:
            raise self._over
        if not self._open and not self._next and self._is_time(now):
            self._at = now + self._parts.settings.commit_every_s
            self._not_before = now + CROWDED_S
            self._next.extend(self._groups(self._books.windows, now))
        self._work(now)

    def finish(self, places: Iterable[Place]) -> None:
        """Commit what is finished in these partitions, in bounded time: they are about to go."""
        ours = [place for place in places if place in self._books.windows and place[0] in self._shelves]
        if not ours or self._over is not None:
            return
        self._next = deque(self._groups(ours, self._now()))
        self._to_the_end(FINISH_S)
        self._next.clear()
        self._call_off("not committed in time")

    def lose(self, places: Collection[Place]) -> None:
        """Let nothing be committed in these partitions: they are somebody else's."""
        if any(share.place in places for share in self._open):
            self._next.clear()
            self._call_off("its partitions were lost")

    def forget(self, place: Place) -> None:
        """Take note that a partition is gone."""
        self._slow.pop(place, None)

    def _is_time(self, now: float) -> bool:
        if now < self._not_before:
            return False
        return now >= self._at or any(shelf.level() >= CROWDED for shelf in self._shelves.values())

    def _groups(self, places: Iterable[Place], now: float) -> Iterator[list[Place]]:
        """Give the partitions that are well together, and then one of the others."""
        ours = [place for place in places if place[0] in self._shelves]
        yield [place for place in ours if place not in self._slow]
        due = sorted((at, place) for place, at in self._slow.items() if at <= now and place in ours)
        yield from ([place] for _, place in due[:1])

    def _to_the_end(self, seconds: float) -> None:
        """Work until nothing is left or time is up; what ends the lane's transactions is told by the next tick."""
        until = self._now() + seconds
        try:
            while (self._open or self._next) and self._now() < until:
                self._work(until)
        except BrokerError as error:
            log.error("transactions_over error=%s", error)  # noqa: TRY400 - a clear line, not a traceback

    def _call_off(self, why: str) -> None:
        if self._open:
            self._transaction.call_off(KafkaError(KafkaError.REBALANCE_IN_PROGRESS, why))
            self._to_the_end(CALL_OFF_S)

    def _work(self, until: float) -> None:
        try:
            while self._open or self._next:
                if not self._open:
                    self._start(self._next.popleft())
                elif (ending := self._transaction.go_on(max(until - self._now(), 0.0))) is None:
                    return
                elif ending.error is None:
                    self._committed()
                else:
                    self._aborted(ending.error)
        except BrokerError as error:
            self._over = error
            self._open.clear()
            self._next.clear()
            raise

    def _start(self, places: list[Place]) -> None:
        member: object = self._parts.consumer.consumer_group_metadata()
        if member == self._nobody:
            return
        shares = []
        for place, due in self._books.due(places).items():
            ledger = self._ledger(self._books.windows[place])
            shares.append(Share(place, due, ledger, ledger.take(due.covers)))
        self._look_for_stuck(shares)
        if not shares:
            return
        outputs = [output for share in shares for entry in share.entries for output in entry.outputs]
        self._transaction.begin(outputs, _offsets(shares), member)
        for share in shares:
            self._books.windows[share.place].asked = share.due
        self._open = shares

    @staticmethod
    def _ledger(window: Window) -> Ledger:
        if window.ledger is None:
            raise TypeError("a window of a transactional topic has no ledger")
        return window.ledger

    def _look_for_stuck(self, shares: list[Share]) -> None:
        """Let hands in where the shelf is full of what no commit can take: they work on what it waits for."""
        moving = {share.place[0] for share in shares if share.entries} | {topic for topic, _ in self._slow}
        for topic, shelf in self._shelves.items():
            shelf.stuck = topic not in moving and shelf.level() >= 1.0

    def _committed(self) -> None:
        shares, self._open = self._open, []
        for share in shares:
            share.ledger.committed(share.entries)
            self._slow.pop(share.place, None)
            for entry in share.entries:
                self._tell(entry, None)
        self._books.settled(None, _offsets(shares))

    def _aborted(self, error: KafkaError) -> None:
        """Give back what was taken, without what can never be delivered."""
        shares, self._open = self._open, []
        self._books.settled(error, _offsets(shares))
        better = False
        for share in shares:
            found = findings(share.entries)
            spoilt = [entry for entry, _ in found.spoilt]
            share.ledger.put_back([entry for entry in share.entries if entry not in spoilt])
            share.ledger.spend(spoilt)
            for entry, why in found.spoilt:
                self._give_up(entry, why)
            if found.stuck:
                self._slow[share.place] = self._now() + RETRY_S
            better = better or found.eased or bool(spoilt)
        if better:
            self._next.extend(self._groups([share.place for share in shares], self._now()))
        else:
            self._not_before = self._now() + RETRY_S

    def _give_up(self, entry: Entry, error: KafkaError) -> None:
        """Dead-letter the messages whose output cannot be delivered; the copies go the way of all outputs."""
        topics = {output.topic for output in entry.outputs if output.error is not None}
        for raw in entry.raws:
            if entry.piece.on_lost_output is not None:
                why = f"an output to {', '.join(sorted(topics))} was not delivered: {explained(error)}"
                entry.piece.on_lost_output(raw, why)
        self._tell(entry, error)

    def _tell(self, entry: Entry, error: KafkaError | None) -> None:
        """Tell whoever asked how its outputs ended; what it raises is its own affair."""
        for output in entry.outputs:
            if output.on_delivery is None or output.report is None:
                continue
            try:
                output.on_delivery(error, output.report)
            except Exception:
                log.exception("delivery_callback_failed")


def _offsets(shares: Iterable[Share]) -> list[TopicPartition]:
    return [TopicPartition(*share.place, share.due.offset, share.due.metadata) for share in shares]
