"""Transactions on a thread of their own, with clients that do not return."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shadowstream.errors import BrokerError
from shadowstream.kafka.clock import Clock
from shadowstream.kafka.transactions.aside import LONGEST_S, PATIENCE_S, Aside
from shadowstream.kafka.transactions.outbox import Output
from shadowstream.kafka.transactions.transaction import Ending, Transaction
from shadowstream.lane import Lane

LATE_S = 10.0


class Client:
    """A transactional producer that remembers what it was asked, and stands still where a test says so."""

    def __init__(self, stands_still_at: str = "") -> None:
        self.asked: list[str] = []
        self.told: list[Any] = []
        self.arrived, self.released = threading.Event(), threading.Event()
        self._stands_still_at = stands_still_at

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self._stands_still_at:
            self.arrived.set()
            assert self.released.wait(LATE_S)

    def init_transactions(self, seconds: float) -> None:
        self._ask("init")

    def begin_transaction(self) -> None:
        self._ask("begin")

    def produce(self, topic: str, value: str, key: None, partition: int, told: Any, *_: Any) -> None:
        self.asked.append(value)
        self.told.append(told)

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], member: object, seconds: float) -> None:
        self._ask("offsets")
        if self._stands_still_at == "abort":
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True))

    def commit_transaction(self, seconds: float) -> None:
        self._ask("commit")

    def abort_transaction(self, seconds: float) -> None:
        self._ask("abort")

    def poll(self, seconds: float) -> int:
        return 0


class Rig:
    """Transactions whose clients a test lays out, on a clock that it moves."""

    def __init__(self, *clients: Client) -> None:
        self.now = 0.0
        self._clients = iter(clients)
        self._clock = Clock(monotonic=lambda: self.now)
        self.outputs = [Output("out", "a", None, -1, 0, None)]
        self.aside = Aside(self._made, self._clock)
        assert self.aside.ready(0) is None

    def _made(self) -> Transaction:
        return Transaction(next(self._clients), "id", Lane.NORMAL, self._clock)  # type: ignore[arg-type]

    def begin(self) -> None:
        self.aside.begin(self.outputs, [TopicPartition("in", 0, 1)], "member")

    def ending(self) -> Ending:
        ending = self.aside.go_on(LATE_S)
        assert ending is not None
        return ending


def carriers() -> list[threading.Thread]:
    """Return the threads that carry a transaction now."""
    return [thread for thread in threading.enumerate() if thread.name == "transaction"]


def test_the_caller_does_not_wait_for_the_brokers() -> None:
    client = Client("commit")
    rig = Rig(client)
    rig.begin()
    assert client.arrived.wait(LATE_S)
    assert rig.aside.go_on(0) is None
    client.released.set()
    assert rig.ending() == Ending(None)
    assert client.asked == ["init", "begin", "a", "offsets", "commit"]


@pytest.mark.parametrize("where", ["offsets", "abort"])
def test_a_client_that_does_not_return_is_left_behind_and_never_commits(where: str) -> None:
    before = carriers()
    hangs, follows = Client(where), Client()
    rig = Rig(hangs, follows)
    rig.begin()
    assert hangs.arrived.wait(LATE_S)
    (carrier,) = [each for each in carriers() if each not in before]
    assert rig.aside.go_on(0) is None
    rig.now += PATIENCE_S
    left = rig.aside.go_on(0)
    assert left is not None
    assert left.error is not None
    assert left.error.code() == KafkaError.REQUEST_TIMED_OUT
    rig.begin()
    assert rig.ending() == Ending(None)
    assert follows.asked == ["init", "begin", "a", "offsets", "commit"], "it takes the id over first"
    hangs.released.set()
    carrier.join(LATE_S)
    assert hangs.asked == ["init", "begin", "a", "offsets", "abort"], "it ends without a commit"


def test_what_a_client_that_was_left_behind_tells_of_its_messages_is_nobody_s_affair() -> None:
    hangs, follows = Client("offsets"), Client()
    rig = Rig(hangs, follows)
    rig.begin()
    assert hangs.arrived.wait(LATE_S)
    rig.now += PATIENCE_S
    assert rig.aside.go_on(0) is not None
    rig.begin()
    assert rig.ending() == Ending(None)
    hangs.told[0](KafkaError(KafkaError._PURGE_QUEUE), None)
    assert rig.outputs[0].error is None
    hangs.released.set()


def test_a_commit_that_is_not_answered_for_long_ends_the_lane_because_it_may_have_happened() -> None:
    client = Client("commit")
    rig = Rig(client)
    rig.begin()
    assert client.arrived.wait(LATE_S)
    rig.now += PATIENCE_S
    assert rig.aside.go_on(0) is None
    assert not rig.aside.call_off(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
    rig.now += LONGEST_S
    with pytest.raises(BrokerError, match="nobody knows whether it has happened"):
        rig.aside.go_on(0)
    client.released.set()


def test_what_ends_the_thread_is_told_to_whoever_waits() -> None:
    client = Client()

    def fenced(seconds: float) -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED, "somebody else", fatal=True))

    client.commit_transaction = fenced  # type: ignore[method-assign]
    rig = Rig(client)
    rig.begin()
    with pytest.raises(BrokerError, match=r"under the id id cannot go on.*group\.instance\.id"):
        rig.ending()
