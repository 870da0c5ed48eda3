"""The schedule of an open load, and the sender that keeps to it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from shadowstream.fcst.load import Load, Stretch, due_times, steady

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_steady_schedule_sends_at_even_intervals() -> None:
    assert list(due_times([steady(4, 1)])) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_ramp_sends_as_many_messages_as_its_mean_rate_and_ever_faster() -> None:
    times = list(due_times([Stretch(10, 10, 100)]))
    gaps = [after - before for before, after in pairwise(times)]

    assert len(times) == 550
    assert gaps == sorted(gaps, reverse=True)
    assert 1 / gaps[0] == pytest.approx(10, rel=0.15)
    assert 1 / gaps[-1] == pytest.approx(100, rel=0.01)


def test_a_ramp_may_begin_and_end_at_nothing() -> None:
    assert len(list(due_times([Stretch(2, 0, 10)]))) == 10
    assert len(list(due_times([Stretch(2, 10, 0)]))) == 10
    assert list(due_times([steady(0, 5)])) == []


def test_stretches_follow_each_other_on_one_clock() -> None:
    times = list(due_times([steady(2, 1), steady(10, 1)]))

    assert len(times) == 12
    assert times[:2] == pytest.approx([0.5, 1.0])
    assert times[2] == pytest.approx(1.1)
    assert times[-1] == pytest.approx(2.0)


@pytest.mark.parametrize("rate", [0.7, 3, 33.3, 1000])
def test_no_rate_loses_a_message_to_rounding(rate: float) -> None:
    assert len(list(due_times([steady(rate, 30)]))) == int(rate * 30 + 1e-6)


class Broker:
    """Takes messages and tells at once how they fared."""

    def __init__(self, refuse: Callable[[str], bool] = lambda _: False, error: object = None) -> None:
        self.taken: list[str] = []
        self.refuse = refuse
        self.error = error

    def send(self, voucher_id: str, on_delivery: Callable[[Any, Any], None]) -> None:
        if self.refuse(voucher_id):
            raise BufferError("queue full")
        self.taken.append(voucher_id)
        on_delivery(self.error, None)


def finished(load: Load) -> Load:
    until = time.monotonic() + 5
    while not load.finished and time.monotonic() < until:
        time.sleep(0.005)
    assert load.finished
    return load


def test_each_message_has_an_id_of_its_own_and_the_time_it_was_meant_for() -> None:
    broker = Broker()
    load = Load("n", broker.send)

    load.start([steady(200, 0.1)])
    finished(load)
    load.start([steady(200, 0.1)])
    finished(load)

    assert broker.taken == [f"n{number:06d}" for number in range(40)]
    assert load.sent() == set(broker.taken)
    assert list(load.due.values()) == sorted(load.due.values())


def test_a_slow_send_does_not_slow_the_schedule() -> None:
    broker = Broker()

    def slow(voucher_id: str, on_delivery: Callable[[Any, Any], None]) -> None:
        if voucher_id == "n000000":
            time.sleep(0.1)
        broker.send(voucher_id, on_delivery)

    load = Load("n", slow)
    load.start([steady(1000, 0.05)])
    finished(load)

    assert len(load.due) == 50
    assert max(load.due.values()) - min(load.due.values()) == pytest.approx(0.049)


def test_a_full_queue_is_counted_and_not_taken_for_sent() -> None:
    broker = Broker(refuse=lambda voucher_id: voucher_id.endswith("3"))
    load = Load("s", broker.send)

    load.start([steady(1000, 0.01)])
    finished(load)

    assert load.refused == 1
    assert "s000003" not in load.sent()
    assert len(load.sent()) == 9


def test_what_was_not_delivered_was_not_sent() -> None:
    load = Load("s", Broker(error="timed out").send)

    load.start([steady(1000, 0.005)])
    finished(load)

    assert load.sent() == set()
    assert load.waiting == 0


def test_a_message_without_an_answer_waits() -> None:
    load = Load("s", lambda *_: None)

    load.start([steady(1000, 0.005)])
    finished(load)

    assert load.waiting == 5
    assert load.sent() == set()


def test_a_failing_sender_says_why_it_ended() -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such service")

    load = Load("n", broken)
    load.start([steady(1000, 1)])
    finished(load)

    assert str(load.failure) == "no such service"


def test_stop_ends_a_schedule_that_has_hours_to_go() -> None:
    load = Load("n", Broker().send)
    load.start([steady(10, 86_400)])

    load.stop()

    assert load.finished
