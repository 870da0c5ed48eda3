"""A limit that warms up: after a start, a trip or a long rest it opens from a share of itself, in a straight line."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.config.model import BreakerRule, RateRule
from shadowstream.events import Outcome
from shadowstream.gate.ramp import Ramp
from shadowstream.gate.rate import RE_ASK_S, Bucket

if TYPE_CHECKING:
    from shadowstream.gate import Gate
    from tests.unit.gate.conftest import MakeGates

WARM_S = 10.0
RATE = RateRule(hard_per_s=100.0, burst=10, warm_up_s=WARM_S, warm_from=0.1)


def greedy(gate: Gate, begin: float, seconds: float = 1.0, every_s: float = 0.001) -> int:
    """Ask all the time; return how many were admitted."""
    return sum(gate.enter(begin + number * every_s).admitted for number in range(int(seconds / every_s)))


def test_a_rate_opens_from_a_tenth_to_the_whole_in_a_straight_line(gates: MakeGates) -> None:
    gate = gates(rates={"claim": RATE}).gate("claim")
    seconds = [greedy(gate, float(each)) for each in range(13)]
    # The share is 0.1 at first and 0.09 more each second: half a second's growth on the average.
    assert seconds[:10] == pytest.approx([14.5 + 9 * each for each in range(10)], abs=3.0)
    assert seconds[11:] == pytest.approx([100, 100], abs=1.0)
    assert [after >= before for before, after in pairwise(seconds)] == [True] * 12


@pytest.mark.parametrize(("idle_s", "warm"), [(0.9 * WARM_S, True), (1.1 * WARM_S, False)])
def test_it_is_cold_again_after_nobody_has_asked_for_as_long_as_warming_up_takes(
    gates: MakeGates, idle_s: float, *, warm: bool
) -> None:
    gate = gates(rates={"claim": RATE}).gate("claim")
    greedy(gate, 0.0, 2 * WARM_S, 0.01)
    assert (greedy(gate, 2 * WARM_S + idle_s) >= 100) is warm


def test_it_is_cold_again_when_the_breaker_has_closed_however_that_came(gates: MakeGates) -> None:
    rule = BreakerRule(window=2, min_calls=2, open_for_s=5.0, half_open=1)
    made = gates(rates={"claim": RATE}, breakers={"claim": rule})
    gate = made.gate("claim")
    greedy(gate, 0.0, 2 * WARM_S, 0.01)
    for _ in range(2):
        gate.leave(gate.enter(21.0), Outcome.FAILED, 21.0)
    assert gate.enter(21.1).by == "breaker"
    gate.leave(gate.enter(26.1), Outcome.HANDLED, 26.1)
    assert greedy(gate, 26.2) < 25
    greedy(gate, 27.2, WARM_S, 0.01)
    assert greedy(gate, 40.0) >= 100
    circuit = made.circuit("claim")
    assert circuit is not None
    circuit.open()
    circuit.close()
    assert greedy(gate, 41.0) < 25, "somebody else closed it"


def test_a_cap_opens_in_whole_calls_one_at_least_and_nought_stays_nought(gates: MakeGates) -> None:
    def at_once(limit: int, now: float) -> int:
        rule = BreakerRule(max_concurrent=limit, warm_up_s=WARM_S, warm_from=0.1)
        gate = gates(breakers={"claim": rule}).gate("claim")
        gate.leave(gate.enter(0.0), Outcome.HANDLED, 0.0)
        return sum(gate.enter(now).admitted for _ in range(100))

    assert [at_once(20, now) for now in (0.0, 5.0, 10.0)] == [2, 11, 20]
    assert [at_once(1, now) for now in (0.0, 5.0, 10.0)] == [1, 1, 1]
    assert [at_once(0, now) for now in (0.0, 5.0, 10.0)] == [0, 0, 0]


def test_nobody_is_told_to_wait_for_a_rate_that_grows_meanwhile(gates: MakeGates) -> None:
    rule = RateRule(hard_per_s=1.0, burst=1, warm_up_s=60.0, warm_from=0.01)
    gate = gates(rates={"claim": rule}).gate("claim")
    assert gate.enter(0.0).admitted
    assert gate.enter(0.0).wait_s == RE_ASK_S, "at the rate of now it would be a hundred seconds"


class Told:
    """A stage that remembers what it was told."""

    def __init__(self) -> None:
        self.levels: list[float] = []

    def tune(self, level: float, now: float) -> None:
        self.levels.append(level)


def test_a_stage_that_is_warm_is_told_nothing_any_more() -> None:
    ramp = Ramp(told := Told(), WARM_S, 0.5)
    for now in (0.0, 5.0, 10.0, 11.0, 12.0):
        ramp.ask(now)
    assert told.levels == [0.5, 0.75, 1.0]


def test_a_clock_that_goes_back_makes_nothing_warmer() -> None:
    ramp = Ramp(told := Told(), WARM_S, 0.5)
    for now in (100.0, 105.0, 50.0, 105.0):
        ramp.ask(now)
    assert told.levels == [0.5, 0.75, 0.5, 0.75]


@settings(deadline=None)
@given(
    rate=st.sampled_from([0.3, 3.0, 100.0]),
    burst=st.integers(1, 40),
    cold=st.sampled_from([0.01, 0.1, 1.0]),
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200),
)
def test_no_window_ever_holds_more_than_the_full_rate_and_burst_however_often_it_gets_cold(
    rate: float, burst: int, cold: float, steps: list[tuple[float, bool]]
) -> None:
    bucket, now, lowest = Bucket(rate, burst), 0.0, Fraction(0)
    ramp, count = Ramp(bucket, 5.0, cold), 0
    for gap, trips in steps:
        now += gap
        if trips:
            ramp.restart()
        ramp.ask(now)
        level = count - Fraction(rate) * Fraction(now)
        lowest = min(lowest, level)
        if not bucket.check(now):
            bucket.content += 1.0
            assert level - lowest + 1 - burst <= Fraction(1, 100)
            count += 1
