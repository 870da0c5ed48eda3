"""How fast letters may go: never above the rate asked for, never above shadow's own."""

from __future__ import annotations

import pytest

from shadowstream.config import BreakerRule, RateRule
from shadowstream.events import Listeners
from shadowstream.gate import Gates
from shadowstream.kafka.letters.pace import Pace
from tests.lanes import lane_of


def gates(rate: RateRule | None, breaker: BreakerRule | None = None) -> Gates:
    settings = lane_of(rates={"t": rate}, breakers={"t": breaker})
    return Gates(settings, Listeners())


def admitted(pace: Pace, seconds: float) -> int:
    """Ask whenever told to, and count how many went within so many seconds."""
    now, count = 100.0, 0
    while now < 100.0 + seconds and not pace.closed:
        wait_s = pace.ask("t", now)
        count += not wait_s
        now += wait_s
    return count


@pytest.mark.parametrize(("asked", "shadow"), [(20, 50), (50, 20), (20, None), (None, 20)])
def test_the_slower_of_both_rates_holds_and_is_used_to_the_full(asked, shadow) -> None:
    rule = None if shadow is None else RateRule(hard_per_s=shadow, burst=1)
    pace = Pace(asked, gates(rule))
    assert 20 * 10 * 0.98 <= admitted(pace, 10) <= 20 * 10 + 3


def test_the_normal_lane_is_held_by_no_gate() -> None:
    pace = Pace(None, None)
    assert all(pace.ask("t", 1.0) == 0.0 for _ in range(1000))


def test_a_gate_that_lets_nothing_through_is_found_out_and_not_waited_for() -> None:
    pace = Pace(50, gates(RateRule(hard_per_s=0)))
    assert admitted(pace, 60) == 0
    assert pace.closed
    assert pace.refused_by == "rate"


def test_a_slow_gate_is_no_closed_one() -> None:
    pace = Pace(50, gates(RateRule(hard_per_s=1 / 60, burst=1)))
    assert admitted(pace, 600) in {10, 11}
    assert not pace.closed


def test_what_the_gate_refuses_costs_nothing_of_the_rate_that_was_asked_for() -> None:
    pace = Pace(1, gates(RateRule(hard_per_s=10, burst=1)))
    assert pace.ask("t", 100.0) == 0.0
    assert pace.ask("t", 101.0) == 0.0
    other = Pace(1, gates(RateRule(hard_per_s=0.5, burst=1)))
    assert other.ask("t", 100.0) == 0.0
    assert other.ask("t", 101.5) == pytest.approx(0.5)
    assert other.ask("t", 102.0) == 0.0


def test_a_replay_holds_no_place_under_a_cap() -> None:
    pace = Pace(None, gates(None, BreakerRule(max_concurrent=1)))
    assert all(pace.ask("t", 1.0) == 0.0 for _ in range(100))
