"""Who polls: the owner, or a hand that has nothing else to do; never both, and never nobody."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage

from shadowstream.errors import BrokerError
from shadowstream.kafka.cursor.helm import RELIEF_S, Helm
from shadowstream.kafka.offsets import Piece
from tests.unit.kafka.rig import Client, Rig
from tests.waiting import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watched(Client):
    """A client that remembers who polled, and refuses two at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.polled_by: list[threading.Thread] = []
        self.trouble: BaseException | None = None
        self._alone = threading.Lock()
        self.met = False

    def poll(self, timeout: float) -> RawMessage | None:
        self.met = self.met or not self._alone.acquire(blocking=False)
        try:
            self.polled_by.append(threading.current_thread())
            if self.trouble is not None and self.polled_by[-1].name == "normal-t-0":
                raise self.trouble
            if not self.log:
                time.sleep(0.001)
            return super().poll(timeout)
        finally:
            self._alone.release()


@contextmanager
def running(rig: Rig) -> Iterator[list[BrokerError]]:
    """Run a rig's cursor in a thread; gives what it raised."""
    raised: list[BrokerError] = []

    def run() -> None:
        try:
            rig.cursor.run()
        except BrokerError as error:
            raised.append(error)

    owner = threading.Thread(target=run, name="owner")
    rig.assign(0)
    owner.start()
    try:
        yield raised
    finally:
        rig.door.set()
        rig.cursor.stop()
        owner.join(DEADLINE_S)
        assert not owner.is_alive()


class Endless(Watched):
    """A client that has another message a moment after the last one."""

    def poll(self, timeout: float) -> RawMessage | None:
        time.sleep(0.002)
        self.log.append(RawMessage(topic="t", partition=0, offset=len(self.polled_by), value=b"v"))
        return super().poll(timeout)


@pytest.fixture
def client() -> Watched:
    return Watched()


def test_a_hand_that_has_nothing_to_do_polls_for_itself(client: Watched) -> None:
    rig = Rig(client)
    rig.door.set()
    with running(rig):
        for number in range(3):
            rig.lay_out(2 * number, 2 * number + 1)
            until(lambda number=number: len(rig.handled) == 2 * number + 2)
    assert rig.handled == list(range(6))
    assert {"owner", "normal-t-0"} <= {thread.name for thread in client.polled_by}
    assert client.commits[-1] == {("t", 0): 6}


def test_a_hand_that_carries_for_long_is_relieved_and_polling_goes_on(client: Watched) -> None:
    rig = Rig(client)
    rig.lay_out(1)
    with running(rig):
        rig.inside.wait()
        before = client.polls
        until(lambda: client.polls > before + 5)
        assert client.polled_by[-1].name == "owner"
        rig.lay_out(2)
        rig.door.set()
        until(lambda: rig.handled == [1, 2])
    assert not client.met


def test_what_polling_raises_ends_the_lane_though_a_hand_polled(client: Watched) -> None:
    rig = Rig(client)
    rig.lay_out(1)
    with running(rig) as raised:
        rig.inside.wait()
        client.trouble = BrokerError("the brokers are gone")
        rig.door.set()
        until(lambda: rig.handled)
        rig.lay_out(2)
        until(lambda: raised)
    assert str(raised[0]) == "the brokers are gone"
    assert client.closed


def test_a_stop_is_heard_while_messages_come_without_end() -> None:
    rig = Rig(client := Endless())
    rig.door.set()
    with running(rig):
        until(lambda: len(client.polled_by) > 100 and client.polled_by[-1].name == "normal-t-0")
    assert client.closed


def test_a_stop_is_heard_while_a_hand_polls(client: Watched) -> None:
    rig = Rig(client)
    rig.door.set()
    with running(rig):
        rig.lay_out(*range(5))
        until(lambda: len(rig.handled) == 5)
    assert client.closed
    assert not rig.cursor.hung
    assert client.commits[-1] == {("t", 0): 5}


@pytest.mark.parametrize("seed", range(5))
def test_two_never_poll_at_once_and_everything_is_handled_once_in_order(client: Watched, seed: int) -> None:
    chance = Random(seed)
    rig = Rig(client, max_messages=1000)
    waits = [chance.choice([0.0, 0.0, 0.002, 2 * RELIEF_S]) for _ in range(100)]
    rig.handle = lambda message: time.sleep(waits[message.offset()])
    with running(rig):
        for offset in range(100):
            rig.lay_out(offset)
            time.sleep(chance.choice([0.0, 0.0, 0.001, RELIEF_S]))
        until(lambda: len(rig.handled) == 100)
    assert rig.handled == list(range(100))
    assert not client.met
    assert client.commits[-1] == {("t", 0): 100}


def test_what_a_hand_has_polled_is_not_overtaken_though_it_is_relieved_before_it_begins(
    client: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = Helm.next

    def polled_and_held_up(helm: Helm, *, free: bool) -> list[Piece]:
        pieces = polled(helm, free=free)
        time.sleep(3 * RELIEF_S)
        return pieces

    monkeypatch.setattr(Helm, "next", polled_and_held_up)
    rig = Rig(client, max_messages=1000)
    rig.door.set()
    rig.lay_out(*range(60))
    with running(rig):
        until(lambda: len(rig.handled) == 60)
    assert rig.handled == list(range(60))


class Moment(threading.Event):
    """Lets time pass while somebody waits for it."""

    def __init__(self, now: list[float]) -> None:
        super().__init__()
        self._now = now

    def wait(self, timeout: float | None = None) -> bool:
        self._now[0] += timeout or 0.0
        return self.is_set()


def lent(*rounds: list[Piece]) -> tuple[Helm, list[float]]:
    now, left = [0.0], list(rounds)
    return Helm(lambda: left.pop(0), lambda: now[0], Moment(now)), now


def test_a_relieved_hand_polls_no_more() -> None:
    helm, now = lent([Piece([])])
    helm.wait()
    assert now[0] == pytest.approx(RELIEF_S)
    assert helm.next(free=True) == []


def test_whoever_carries_for_moments_keeps_the_helm_until_there_is_nothing() -> None:
    some = [Piece([])]
    helm, now = lent(some, some, [])
    for _ in range(2):
        now[0] += 0.9 * RELIEF_S
        assert helm.next(free=True) == some
    assert helm.next(free=True) == []
    began = now[0]
    helm.wait()
    assert now[0] == began, "it came back by itself"


def test_whoever_has_something_else_to_do_gives_the_helm_back() -> None:
    helm, now = lent()
    assert helm.next(free=False) == []
    helm.wait()
    assert now[0] == 0.0


def test_nobody_is_relieved_while_polling() -> None:
    seen: list[Any] = []

    def turn() -> list[Piece]:
        now[0] += 100 * RELIEF_S
        seen.append(helm._relieved())
        return []

    now = [0.0]
    helm = Helm(turn, lambda: now[0], Moment(now))
    helm.next(free=True)
    assert seen == [False]
