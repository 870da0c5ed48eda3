"""What a breaker's rule may say: windows of time, which errors count, how long it stays open, lost trials."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.config.model import BreakerRule
from shadowstream.events import Listeners, Outcome, Transition
from shadowstream.gate import Ticket
from shadowstream.gate.breaker import Breaker
from shadowstream.gate.breaker.blame import Blame
from shadowstream.gate.breaker.windows import FAILED, SLOTS, SLOW, CountWindow, TimeWindow, window_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from tests.unit.gate.conftest import Ear, MakeGates

RULE = BreakerRule(window=4, min_calls=4, open_for_s=10.0, half_open=1)


class NotFoundError(LookupError):
    """Says nothing of a downstream's health."""


def transitions(ear: Ear) -> list[tuple[str, str]]:
    return [(each.after, each.reason) for each in ear.heard if isinstance(each, Transition)]


# Windows


@given(
    size=st.integers(1, 20), calls=st.lists(st.sampled_from([0, FAILED, SLOW, FAILED | SLOW]), min_size=1, max_size=100)
)
def test_a_count_window_knows_its_last_calls(size: int, calls: list[int]) -> None:
    window = CountWindow(size)
    for call in calls:
        window.record(call, 0.0)
    last = calls[-size:]
    assert (window.calls, window.failures, window.slows) == (
        len(last),
        sum(call & FAILED for call in last),
        sum(call >> 1 for call in last),
    )


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from([0, FAILED, SLOW, FAILED | SLOW])), min_size=1, max_size=100
    )
)
def test_a_time_window_knows_the_calls_of_its_time_and_forgets_a_slot_at_a_time(
    steps: list[tuple[float, int]],
) -> None:
    window, now, made = TimeWindow(5.0), 100.0, []
    for step, call in steps:
        now += step
        window.record(call, now)
        made.append((int(now / (5.0 / SLOTS)), call))
    kept = [call for slot, call in made if slot > made[-1][0] - SLOTS]
    assert (window.calls, window.failures, window.slows) == (
        len(kept),
        sum(call & FAILED for call in kept),
        sum(call >> 1 for call in kept),
    )


def test_a_time_window_forgets_nothing_when_its_clock_is_set_back_and_all_when_nothing_came_for_long() -> None:
    window = TimeWindow(10.0)
    window.record(FAILED, 100.0)
    window.record(0, 50.0)
    assert (window.calls, window.failures) == (2, 1)
    window.record(0, 1e9)
    assert (window.calls, window.failures) == (1, 0)


def test_failures_of_long_ago_open_no_breaker_with_a_window_of_time(gates: MakeGates, ear: Ear) -> None:
    gate = gates(breakers={"claim": replace(RULE, window_s=10.0, min_calls=4)}).gate("claim")

    def fail(now: float) -> None:
        gate.leave(gate.enter(now), Outcome.FAILED, now)

    for now in (0.0, 1.0, 2.0, 20.0, 21.0, 22.0):
        fail(now)
    assert transitions(ear) == []
    fail(23.0)
    assert transitions(ear) == [("open", "failure_rate")]


# Which errors count


@pytest.mark.parametrize(
    ("count", "ignore", "falls"),
    [
        ((), (), {ValueError: True, NotFoundError: True}),
        ((), ("LookupError",), {ValueError: True, NotFoundError: False, KeyError: False}),
        ((), (f"{__name__}.NotFoundError",), {LookupError: True, NotFoundError: False}),
        (("OSError",), (), {ConnectionError: True, TimeoutError: True, ValueError: False}),
        (("OSError",), ("TimeoutError",), {ConnectionError: True, TimeoutError: False}),
        (("Exception",), ("builtins.KeyError",), {IndexError: True, KeyError: False}),
    ],
)
def test_an_error_is_told_by_its_name_or_that_of_a_class_it_comes_from(
    count: tuple[str, ...], ignore: tuple[str, ...], falls: dict[type[BaseException], bool]
) -> None:
    blame = Blame(BreakerRule(count=count, ignore=ignore))
    for _ in range(2):
        assert {kind: blame.falls_on(kind()) for kind in falls} == falls
    assert blame.falls_on(None), "of unknown cause"


def test_an_ignored_error_is_neither_failure_nor_success_and_gives_its_permit_back(gates: MakeGates, ear: Ear) -> None:
    gate = gates(breakers={"claim": replace(RULE, ignore=("LookupError",))}).gate("claim")

    def call(now: float, error: Exception | None) -> None:
        outcome = Outcome.HANDLED if error is None else Outcome.FAILED
        gate.leave(gate.enter(now), outcome, now, error)

    for _ in range(20):
        call(0.0, NotFoundError())
    for _ in range(4):
        call(0.0, ConnectionError())
    assert transitions(ear) == [("open", "failure_rate")]
    for _ in range(3):
        call(10.0, NotFoundError())
    call(10.0, None)
    assert [after for after, _ in transitions(ear)] == ["open", "half-open", "closed"]


# How long it stays open


def opened_for(gates: MakeGates, rule: BreakerRule, times: int) -> list[float]:
    """Let a breaker open, and fail each of its trials; return how long it stayed open each time."""
    gate = gates(breakers={"claim": rule}).gate("claim")
    now = 0.0
    for _ in range(4):
        gate.leave(gate.enter(now), Outcome.FAILED, now)
    moments = [now]
    for _ in range(times):
        while not (ticket := gate.enter(now)).admitted:
            now += ticket.wait_s
        moments.append(now)
        gate.leave(ticket, Outcome.FAILED, now)
    return [after - before for before, after in pairwise(moments)]


def test_it_stays_open_for_longer_each_time_in_a_row_up_to_the_longest(gates: MakeGates) -> None:
    rule = replace(RULE, open_growth=2.0, open_for_max_s=60.0)
    assert opened_for(gates, rule, 5) == pytest.approx([10.0, 20.0, 40.0, 60.0, 60.0])
    assert opened_for(gates, RULE, 3) == pytest.approx([10.0] * 3)


def test_after_it_has_closed_it_begins_anew(gates: MakeGates) -> None:
    rule = replace(RULE, open_growth=2.0)
    gate = gates(breakers={"claim": rule}).gate("claim")
    for now, outcome in ((0.0, Outcome.FAILED), (10.0, Outcome.HANDLED), (11.0, Outcome.FAILED)):
        for _ in range(4 if outcome is Outcome.FAILED else 1):
            gate.leave(gate.enter(now), outcome, now)
    assert [gate.enter(now).admitted for now in (20.9, 21.1)] == [False, True]


def test_by_chance_it_half_opens_earlier_and_never_later(gates: MakeGates) -> None:
    times = [opened_for(gates, replace(RULE, open_jitter=0.5), 1)[0] for _ in range(50)]
    assert all(5.0 <= each <= 10.0 for each in times)
    assert len({round(each, 3) for each in times}) > 10


# Trials that are lost


def test_a_trial_that_never_ends_opens_it_again_when_its_time_is_up(gates: MakeGates, ear: Ear) -> None:
    gate = gates(breakers={"claim": replace(RULE, half_open_timeout_s=5.0)}).gate("claim")
    for _ in range(4):
        gate.leave(gate.enter(0.0), Outcome.FAILED, 0.0)
    lost = gate.enter(10.0)
    assert lost.admitted
    assert [gate.enter(now).admitted for now in (14.9, 15.0, 20.0)] == [False] * 3
    assert transitions(ear)[-1] == ("open", "trial_lost")
    found = gate.enter(25.0)
    assert found.admitted
    gate.leave(lost, Outcome.HANDLED, 25.0)
    assert transitions(ear)[-1][0] == "half-open", "the lost one comes too late to count"
    gate.leave(found, Outcome.HANDLED, 25.0)
    assert transitions(ear)[-1] == ("closed", "trials_succeeded")


def test_without_a_timeout_a_trial_is_waited_for(gates: MakeGates) -> None:
    gate = gates(breakers={"claim": RULE}).gate("claim")
    for _ in range(4):
        gate.leave(gate.enter(0.0), Outcome.FAILED, 0.0)
    trial = gate.enter(10.0)
    assert not gate.enter(1e6).admitted
    gate.leave(trial, Outcome.HANDLED, 1e6)
    assert gate.enter(1e6).admitted


@pytest.mark.parametrize("gone", [9, 10, 11, 12, 100])
def test_after_a_gap_nothing_older_than_the_window_is_left_in_any_slot(gone: int) -> None:
    window = TimeWindow(SLOTS)
    for second in range(SLOTS):
        window.record(1, second + 0.5)
    window.record(0, SLOTS - 1 + gone + 0.5)
    left = max(SLOTS - gone, 0)
    assert (window.calls, window.failures) == (left + 1, left)


def test_a_trial_that_fails_or_is_slow_says_so(gates: MakeGates, ear: Ear) -> None:
    rule = BreakerRule(
        failure_rate=0.5, window=4, min_calls=1, open_for_s=10.0, half_open=2, slow_call_s=1.0, slow_rate=0.5
    )
    gate = gates(breakers={"claim": rule}).gate("claim")
    gate.leave(gate.enter(0.0), Outcome.FAILED, 0.0)
    gate.leave(gate.enter(20.0), Outcome.FAILED, 20.0)
    gate.leave(gate.enter(40.0), Outcome.HANDLED, 41.0)
    half = ("half-open", "open_for")
    assert transitions(ear) == [("open", "failure_rate"), half, ("open", "trial_failed"), half, ("open", "trial_slow")]


def test_what_another_process_has_found_out_opens_it_for_what_is_left_of_its_time(ear: Ear) -> None:
    breaker = Breaker(Lane.SHADOW, "claim", BreakerRule(open_for_s=30.0), Listeners([ear]), Lock())
    breaker.open_for(7.0, 100.0)
    breaker.open_for(70.0, 101.0)
    assert breaker.check(106.75) == pytest.approx(0.25)
    assert breaker.check(107.0) == 0.0
    assert breaker.circuit.current_state == "open", "told of with the next announcement"
    breaker.announce()
    assert breaker.circuit.current_state == "half-open"
    assert transitions(ear) == [("open", "fleet"), ("half-open", "open_for")]


def test_until_when_it_has_opened_by_its_own_judgment_is_said_once() -> None:
    breaker = Breaker(Lane.SHADOW, "claim", replace(RULE, min_calls=1), Listeners(), Lock())
    said: list[tuple[str, float]] = []
    breaker.say = lambda command, until: said.append((command, until))
    breaker.leave(Ticket(), Outcome.FAILED, 5.0)
    assert breaker.changed is True
    breaker.announce()
    breaker.announce()
    assert said == [("claim", 15.0)]
    assert not breaker.changed
    breaker.open_for(1.0, 6.0)
    breaker.circuit.close()
    breaker.open_for(1.0, 7.0)
    assert said == [("claim", 15.0)], "what others have found out is theirs to say"


def test_what_an_error_counts_for_is_judged_once_for_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    blame, judged = Blame(replace(RULE, ignore=("LookupError",))), []
    known = Blame._judged

    def judge(self: Blame, kind: type[BaseException]) -> bool:
        judged.append(kind)
        return known(self, kind)

    monkeypatch.setattr(Blame, "_judged", judge)
    answers = [blame.falls_on(error) for error in (KeyError(), OSError(), KeyError(), OSError())]
    assert answers == [False, True, False, True]
    assert judged == [KeyError, OSError]


def test_a_call_is_slow_by_its_own_time_and_a_slow_failure_is_both(gates: MakeGates, ear: Ear) -> None:
    rule = BreakerRule(failure_rate=0.5, window=4, min_calls=4, open_for_s=10.0, slow_call_s=1.0, slow_rate=0.75)
    gate = gates(breakers={"claim": rule}).gate("claim")
    for outcome, seconds in ((Outcome.HANDLED, 0.5), (Outcome.HANDLED, 1.0), (Outcome.HANDLED, 1.0)):
        gate.leave(gate.enter(100.0), outcome, 100.0 + seconds)
    gate.leave(gate.enter(100.0), Outcome.HANDLED, 100.0)
    assert transitions(ear) == [], "two of four were slow"
    gate.leave(gate.enter(100.0), Outcome.HANDLED, 101.0)
    assert transitions(ear) == [("open", "slow_rate")], "three of the last four were"
    other = gates(breakers={"claim": rule}).gate("claim")
    for _ in range(2):
        other.leave(other.enter(0.0), Outcome.FAILED, 2.0)
        other.leave(other.enter(0.0), Outcome.HANDLED, 0.0)
    assert transitions(ear)[1:] == [("open", "failure_rate")]


def test_a_window_of_one_call_forgets_it_with_the_next() -> None:
    window = window_of(BreakerRule(window=1))
    window.record(FAILED, 0.0)
    window.record(0, 0.0)
    assert (window.calls, window.failures) == (1, 0)


def test_the_least_calls_of_a_window_of_time_may_be_more_than_one_of_calls_would_hold(gates: MakeGates) -> None:
    rule = BreakerRule(failure_rate=0.5, window=2, window_s=10.0, min_calls=5)
    gate = gates(breakers={"claim": rule}).gate("claim")
    opened = []
    for _ in range(5):
        gate.leave(gate.enter(0.0), Outcome.FAILED, 0.0)
        opened.append(not gate.enter(0.0).admitted)
    assert opened == [False] * 4 + [True]


def test_after_a_lost_trial_it_says_how_long_it_is_open_again() -> None:
    rule = replace(RULE, min_calls=1, open_for_s=0.25, half_open_timeout_s=5.0)
    breaker = Breaker(Lane.SHADOW, "claim", rule, Listeners(), Lock())
    breaker.leave(Ticket(), Outcome.FAILED, 100.0)
    assert breaker.check(100.25) == 0.0
    breaker.take(Ticket(entered_at=100.25))
    assert breaker.check(105.25) == pytest.approx(0.25)
