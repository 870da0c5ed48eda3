"""The breaker: what pybreaker's own calls get wrong does not happen here, and its state is still the one others see."""

from __future__ import annotations

import logging
from datetime import datetime, tzinfo
from threading import Barrier, Thread
from threading import Event as Flag
from typing import TYPE_CHECKING

import pybreaker
import pytest
from pybreaker import CircuitBreaker, CircuitBreakerListener

from shadowstream.config.model import BreakerRule
from shadowstream.events import Event, Listeners, Outcome, Transition
from shadowstream.gate import Chain, Rules, Stages, Ticket, Verdict
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from tests.unit.gate.conftest import Ear, Hammer, Waits

HANDLED, FAILED, CANCELLED = Outcome.HANDLED, Outcome.FAILED, Outcome.CANCELLED
RULE = BreakerRule(failure_rate=0.5, window=10, min_calls=4, open_for_s=30.0, half_open=3)


class Gated:
    """One command with nothing but a breaker, and shorthands."""

    def __init__(self, rule: BreakerRule = RULE, hooks: Listeners | None = None) -> None:
        self.stages = Stages(Lane.SHADOW, "voucher.claim", Rules(None, rule), Listeners() if hooks is None else hooks)
        self.gate = Chain(self.stages, Verdict.PARK)
        assert self.stages.breaker is not None
        self.breaker = self.stages.breaker
        self.circuit = self.breaker.circuit

    def end(self, *outcomes: Outcome, now: float = 0.0) -> None:
        for outcome in outcomes:
            self.gate.leave(self.gate.enter(now), outcome, now)

    def opened(self, now: float = 0.0) -> Gated:
        self.end(*[FAILED] * 4, now=now)
        assert self.breaker.phase == "open"
        return self

    def admitted(self, count: int, now: float) -> list[Ticket]:
        return [ticket for ticket in (self.gate.enter(now) for _ in range(count)) if ticket.admitted]


def test_handlers_run_in_parallel_and_nothing_is_held_during_the_call() -> None:
    gated, together = Gated(), Barrier(5)

    def call() -> None:
        ticket = gated.gate.enter(0.0)
        together.wait(10)
        gated.gate.leave(ticket, HANDLED, 0.2)

    threads = [Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not together.broken


def test_a_forced_open_does_not_wait_for_a_running_handler() -> None:
    gated = Gated()
    running = gated.gate.enter(0.0)
    gated.circuit.open()
    assert not gated.gate.enter(0.1).admitted
    gated.gate.leave(running, HANDLED, 0.2)


def test_half_open_admits_exactly_its_permits_under_a_thread_hammer(hammer: Hammer) -> None:
    for permits in (1, 3, 7):
        gated = Gated(BreakerRule(window=10, min_calls=4, half_open=permits, open_for_s=5.0)).opened()

        def work(_: int, gated: Gated = gated) -> int:
            return len(gated.admitted(200, 5.0))

        assert sum(hammer(work)) == permits


def test_cancelled_trials_never_let_more_than_the_permits_run_at_once(hammer: Hammer) -> None:
    gated = Gated(BreakerRule(window=10, min_calls=4, half_open=3, open_for_s=5.0)).opened()
    gate, running, most = gated.gate, [], []

    def work(_: int) -> int:
        for _try in range(300):
            ticket = gate.enter(6.0)
            if ticket.admitted:
                running.append(ticket)
                most.append(len(running))
                running.pop()
                gate.leave(ticket, CANCELLED, 6.0)
        return 0

    hammer(work)
    assert most
    assert max(most) <= 3
    assert gated.breaker.phase == "half-open"
    assert len(gated.admitted(10, 6.0)) == 3


def test_a_rate_of_failures_opens_where_consecutive_ones_never_would() -> None:
    gated = Gated()
    gated.end(FAILED, FAILED, FAILED, HANDLED)
    assert gated.breaker.phase == "open"


def test_nothing_opens_before_min_calls_and_the_last_of_them_decides() -> None:
    gated = Gated()
    gated.end(FAILED, FAILED, FAILED)
    assert gated.breaker.phase == "closed"
    gated.end(HANDLED)
    assert gated.breaker.phase == "open"


def test_exactly_the_failure_rate_opens_and_one_less_does_not() -> None:
    rule = BreakerRule(failure_rate=0.07, window=100, min_calls=100)
    six, seven = Gated(rule), Gated(rule)
    six.end(*[FAILED] * 6, *[HANDLED] * 94)
    seven.end(*[FAILED] * 7, *[HANDLED] * 93)
    assert (six.breaker.phase, seven.breaker.phase) == ("closed", "open")


def test_the_window_slides_over_the_last_calls_only() -> None:
    gated = Gated(BreakerRule(failure_rate=0.5, window=4, min_calls=4))
    gated.end(HANDLED, HANDLED, HANDLED, FAILED, HANDLED, HANDLED, HANDLED, FAILED)
    assert gated.breaker.phase == "closed"
    gated.end(HANDLED, FAILED)
    assert gated.breaker.phase == "open"


def test_min_calls_above_the_window_means_a_full_window() -> None:
    gated = Gated(BreakerRule(failure_rate=0.5, window=3, min_calls=1000))
    gated.end(FAILED, FAILED)
    assert gated.breaker.phase == "closed"
    gated.end(FAILED)
    assert gated.breaker.phase == "open"


def test_a_failure_rate_of_zero_opens_on_a_failure_but_not_without_one() -> None:
    gated = Gated(BreakerRule(failure_rate=0.0, slow_rate=0.0, window=4, min_calls=1))
    gated.end(*[HANDLED] * 10)
    assert gated.breaker.phase == "closed"
    gated.end(FAILED)
    assert gated.breaker.phase == "open"


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in {HANDLED, FAILED}])
def test_every_other_outcome_is_neither_success_nor_failure(outcome: Outcome) -> None:
    gated = Gated()
    gated.end(FAILED, FAILED, FAILED, *[outcome] * 50)
    assert gated.breaker.phase == "closed"
    gated.end(HANDLED)
    assert gated.breaker.phase == "open"


def test_a_cancelled_trial_gives_its_permit_to_the_next_call() -> None:
    gated = Gated().opened()
    first = gated.admitted(9, 30.0)
    assert len(first) == 3
    gated.gate.leave(first[0], CANCELLED, 30.1)
    assert len(gated.admitted(9, 30.2)) == 1
    assert gated.breaker.phase == "half-open"


def test_calls_slow_enough_and_often_enough_open_though_none_failed() -> None:
    gated = Gated(BreakerRule(window=10, min_calls=4, slow_call_s=0.5, slow_rate=0.5))
    for took in (0.1, 0.499, 0.5, 9.0):
        assert gated.breaker.phase == "closed"
        gated.gate.leave(gated.gate.enter(100.0), HANDLED, 100.0 + took)
    assert gated.breaker.phase == "open"


def test_without_slow_call_s_no_call_is_slow() -> None:
    gated = Gated()
    for _ in range(20):
        gated.gate.leave(gated.gate.enter(0.0), HANDLED, 1e6)
    assert gated.breaker.phase == "closed"


def test_slow_trials_reopen() -> None:
    gated = Gated(BreakerRule(window=10, min_calls=4, open_for_s=5.0, slow_call_s=0.5, slow_rate=0.5, half_open=3))
    gated.opened()
    tickets = gated.admitted(3, 5.0)
    gated.gate.leave(tickets[0], HANDLED, 5.6)
    assert gated.breaker.phase == "half-open"
    gated.gate.leave(tickets[1], HANDLED, 5.6)
    assert gated.breaker.phase == "open"


def test_open_lasts_exactly_open_for_on_the_clock_given_and_wait_s_is_at_most_a_second() -> None:
    gated = Gated().opened(now=1000.0)
    refused = gated.gate.enter(1000.0)
    assert (refused.verdict, refused.by, refused.wait_s) == (Verdict.PARK, "breaker", 1.0)
    assert gated.gate.enter(1029.75).wait_s == 0.25
    assert gated.gate.enter(1030.0).admitted


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Tomorrow:
            return cls(2099, 1, 1, tzinfo=tz)

    gated = Gated().opened(now=10.0)
    monkeypatch.setattr(pybreaker, "datetime", Tomorrow)
    assert not gated.gate.enter(39.9).admitted
    assert gated.gate.enter(40.0).admitted


def test_a_clock_set_back_does_not_keep_a_breaker_open_for_longer() -> None:
    gated = Gated().opened(now=5000.0)
    assert gated.gate.enter(1400.0).wait_s == 1.0
    assert gated.gate.enter(1430.0).admitted


def test_all_trials_succeeding_closes_with_a_clean_window() -> None:
    gated = Gated().opened()
    for ticket in gated.admitted(3, 30.0):
        assert gated.breaker.phase == "half-open"
        gated.gate.leave(ticket, HANDLED, 30.5)
    assert gated.breaker.phase == gated.circuit.current_state == "closed"
    gated.end(FAILED, FAILED, FAILED, now=31.0)
    assert gated.breaker.phase == "closed"


def test_any_failed_trial_reopens_for_the_whole_time_again() -> None:
    gated = Gated().opened()
    first, second, third = gated.admitted(3, 30.0)
    gated.gate.leave(first, HANDLED, 31.0)
    gated.gate.leave(second, FAILED, 32.0)
    assert gated.breaker.phase == gated.circuit.current_state == "open"
    gated.gate.leave(third, HANDLED, 33.0)
    assert not gated.gate.enter(61.9).admitted
    assert gated.gate.enter(62.0).admitted


def test_an_outcome_of_an_older_generation_is_dropped() -> None:
    gated = Gated()
    stale = [gated.gate.enter(0.0) for _ in range(20)]
    gated.opened()
    trials = gated.admitted(3, 30.0)
    for ticket in stale[:9]:
        gated.gate.leave(ticket, HANDLED, 30.1)
    for ticket in stale[9:12]:
        gated.gate.leave(ticket, CANCELLED, 30.1)
    assert gated.breaker.phase == "half-open"
    assert gated.admitted(5, 30.2) == []
    for ticket in trials:
        gated.gate.leave(ticket, HANDLED, 30.3)
    for ticket in stale[12:]:
        gated.gate.leave(ticket, FAILED, 30.4)
    assert gated.breaker.phase == "closed"
    assert gated.stages.cap.in_flight == 0


def test_the_generation_counts_every_transition() -> None:
    gated = Gated()
    assert gated.breaker.generation == 0
    gated.opened()
    trials = gated.admitted(3, 30.0)
    assert [trial.generation for trial in trials] == [2, 2, 2]
    for trial in trials:
        gated.gate.leave(trial, HANDLED, 30.0)
    assert gated.breaker.generation == 3


def test_a_forced_open_lasts_open_for_from_the_next_decision() -> None:
    gated = Gated()
    gated.circuit.open()
    assert not gated.gate.enter(700.0).admitted
    assert not gated.gate.enter(729.9).admitted
    gated.circuit.open()
    assert not gated.gate.enter(730.0).admitted
    assert not gated.gate.enter(759.9).admitted
    assert gated.gate.enter(760.0).admitted
    assert gated.circuit.current_state == "half-open"


def test_a_forced_close_and_a_forced_half_open_are_seen_by_the_next_decision() -> None:
    gated = Gated().opened()
    gated.circuit.half_open()
    assert len(gated.admitted(9, 0.1)) == 3
    gated.circuit.open()
    gated.circuit.close()
    assert len(gated.admitted(9, 0.2)) == 9


def test_every_transition_is_announced_once_with_its_reason(ear: Ear) -> None:
    gated = Gated(hooks=Listeners([ear])).opened()
    for ticket in gated.admitted(3, 30.0):
        gated.gate.leave(ticket, HANDLED, 30.0)
    gated.circuit.open()
    assert [(e.before, e.after, e.reason) for e in ear.heard if isinstance(e, Transition)] == [
        ("closed", "open", "failure_rate"),
        ("open", "half-open", "open_for"),
        ("half-open", "closed", "trials_succeeded"),
        ("closed", "open", "forced"),
    ]
    assert {(e.lane, e.command) for e in ear.heard if isinstance(e, Transition)} == {(Lane.SHADOW, "voucher.claim")}


class Shouting(CircuitBreakerListener):
    """A pybreaker listener that raises."""

    def state_change(self, *_: object) -> None:
        raise RuntimeError("not today")


class Broken:
    """A hook that raises."""

    def on(self, event: Event) -> None:
        raise RuntimeError(event)


def test_a_listener_that_raises_stops_nothing(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    gated = Gated(hooks=Listeners([Broken(), ear]))
    gated.circuit.add_listener(Shouting())
    with caplog.at_level(logging.ERROR):
        gated.opened()
        for ticket in gated.admitted(3, 30.0):
            gated.gate.leave(ticket, HANDLED, 30.0)
        assert gated.breaker.phase == "closed"
        with pytest.raises(RuntimeError):
            gated.circuit.open()
    assert not gated.gate.enter(31.0).admitted
    assert len(ear.heard) == 4
    told = [each for each in caplog.messages if each.startswith("circuit_listener_failed")]
    assert told == ["circuit_listener_failed lane=shadow command=voucher.claim"] * 2


def test_a_pybreaker_listener_may_use_the_gate_while_it_is_told() -> None:
    gated, seen = Gated(), []

    class Curious(CircuitBreakerListener):
        def state_change(self, cb: CircuitBreaker, *_: object) -> None:
            seen.append((gated.gate.enter(0.5).by, gated.gate.level(0.5).breaker, cb.current_state))

    gated.circuit.add_listener(Curious())
    gated.opened()
    gated.circuit.close()
    assert seen == [("breaker", "open", "closed"), ("", "closed", "open")]


def test_forcing_the_state_while_the_gate_changes_it_never_deadlocks(hammer: Hammer) -> None:
    gated = Gated(BreakerRule(window=4, min_calls=1, open_for_s=0.0, half_open=1))
    heard = Flag()

    class Curious(CircuitBreakerListener):
        def state_change(self, *_: object) -> None:
            gated.gate.level(0.0)
            heard.set()

    gated.circuit.add_listener(Curious())

    def work(number: int) -> int:
        for turn in range(200):
            if number < 2:
                (gated.circuit.open, gated.circuit.close)[turn % 2]()
            else:
                gated.end(FAILED if turn % 3 else HANDLED, now=float(turn))
        return 0

    hammer(work)
    gated.end(HANDLED, FAILED, now=1e6)
    assert heard.is_set()
    assert gated.circuit.current_state == gated.breaker.phase
    assert gated.stages.cap.in_flight == 0


def test_with_no_hook_nobody_is_told() -> None:
    class Nobody(Listeners):
        def on(self, event: Event) -> None:
            raise AssertionError(event)

    gated = Gated(hooks=Nobody()).opened()
    gated.circuit.close()
    assert gated.breaker.phase == "closed"


def test_no_lock_of_the_gate_is_held_while_a_hook_is_told() -> None:
    held = []

    class Looking:
        def on(self, _: Event) -> None:
            held.append(gated.stages.lock.locked())

    gated = Gated(hooks=Listeners([Looking()]))
    gated.opened()
    gated.circuit.close()
    assert held == [False, False]


def test_a_decision_an_outcome_and_a_forced_change_wait_for_the_decision_before_them(waits_for: Waits) -> None:
    gated = Gated()
    ticket = gated.gate.enter(0.0)
    lock = gated.stages.lock
    assert waits_for(lock, lambda: gated.gate.enter(0.0))
    assert waits_for(lock, lambda: gated.gate.leave(ticket, HANDLED, 0.0))
    assert waits_for(lock, lambda: gated.gate.level(0.0))
    assert waits_for(lock, gated.circuit.open)


def test_pybreaker_never_calls_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("call", "calling", "call_async"):
        monkeypatch.setattr(CircuitBreaker, name, None)
    gated = Gated().opened()
    gated.end(*[HANDLED] * 3, now=30.0)
    assert gated.breaker.phase == "closed"
