"""The chain: check all, then take; a refusal by one stage takes nothing from any."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from shadowstream.config.model import BreakerRule, RateRule
from shadowstream.events import GateLevel, Listeners, Outcome
from shadowstream.gate import Gate, OpenGate, Rules, Stages, Verdict, folded
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from tests.unit.gate.conftest import Hammer

HANDLED, FAILED, CANCELLED = Outcome.HANDLED, Outcome.FAILED, Outcome.CANCELLED


def stages_of(rate: RateRule | None = None, breaker: BreakerRule | None = None) -> Stages:
    return Stages(Lane.SHADOW, "voucher.use", Rules(rate, breaker), Listeners())


def gate_of(rate: RateRule | None = None, breaker: BreakerRule | None = None) -> Gate:
    return folded(stages_of(rate, breaker), Verdict.SHED)


def test_a_command_without_rules_has_the_open_gate() -> None:
    for gate in (gate_of(), gate_of(RateRule())):
        assert isinstance(gate, OpenGate)
        ticket = gate.enter(0.0)
        assert ticket.admitted
        gate.leave(ticket, HANDLED, 0.0)
        assert gate.level(0.0) is None


def test_a_refusal_carries_the_verdict_the_stage_and_the_wait() -> None:
    gate = gate_of(RateRule(hard_per_s=10.0))
    assert gate.enter(7.0).admitted
    refused = gate.enter(7.025)
    assert (refused.verdict, refused.by, refused.soft, refused.entered_at) == (Verdict.SHED, "rate", False, 7.025)
    assert refused.wait_s == pytest.approx(0.075)
    assert gate.enter(7.025 + refused.wait_s).admitted


def test_a_refusal_by_rate_takes_no_half_open_permit_and_no_place_under_the_cap() -> None:
    stages = stages_of(
        RateRule(hard_per_s=1.0, burst=6), BreakerRule(window=4, min_calls=4, open_for_s=10.0, half_open=3)
    )
    gate = folded(stages, Verdict.WAIT)
    for _ in range(4):
        gate.leave(gate.enter(0.0), FAILED, 0.0)
    assert stages.rate is not None
    stages.rate._hard.content = 30.0  # type: ignore[union-attr]
    assert [gate.enter(10.0).by for _ in range(50)] == ["rate"] * 50
    assert stages.cap.in_flight == 0
    assert [gate.enter(100.0).by for _ in range(5)] == ["", "", "", "breaker", "breaker"]


def test_a_refusal_by_the_cap_or_the_breaker_takes_no_token() -> None:
    gate = gate_of(
        RateRule(soft_per_s=20, hard_per_s=40.0, burst=4), BreakerRule(max_concurrent=2, window=2, min_calls=2)
    )
    first, second = gate.enter(0.0), gate.enter(0.0)
    assert [gate.enter(0.0).by for _ in range(50)] == ["cap"] * 50
    gate.leave(first, FAILED, 0.0)
    gate.leave(second, FAILED, 0.0)
    assert [gate.enter(0.0).by for _ in range(50)] == ["breaker"] * 50
    level = gate.level(0.0)
    assert level == GateLevel(Lane.SHADOW, "voucher.use", "open", 2.0, 0)


def test_the_cap_is_asked_before_the_breaker_and_the_breaker_before_the_rate() -> None:
    gate = gate_of(RateRule(hard_per_s=0.0), BreakerRule(max_concurrent=0))
    assert gate.enter(0.0).by == "cap"
    stages = stages_of(RateRule(hard_per_s=0.0), BreakerRule())
    assert folded(stages, Verdict.WAIT).enter(0.0).by == "rate"
    assert stages.breaker is not None
    stages.breaker.circuit.open()
    assert folded(stages, Verdict.WAIT).enter(0.0).by == "breaker"


def test_a_cap_of_zero_admits_nothing() -> None:
    gate = gate_of(None, BreakerRule(max_concurrent=0))
    for now in (0.0, 1.0, 1e6):
        refused = gate.enter(now)
        assert (refused.verdict, refused.by, refused.wait_s) == (Verdict.SHED, "cap", 1.0)


def test_the_place_under_the_cap_is_free_as_soon_as_a_call_ends() -> None:
    gate = gate_of(None, BreakerRule(max_concurrent=2))
    first, _ = gate.enter(0.0), gate.enter(0.0)
    refused = gate.enter(0.0)
    assert refused.by == "cap"
    assert 0 < refused.wait_s <= 0.01
    gate.leave(first, CANCELLED, 0.0)
    assert gate.enter(0.0).admitted


def test_a_ticket_given_back_twice_counts_once() -> None:
    gate = gate_of(None, BreakerRule(max_concurrent=1, window=10, min_calls=2))
    ticket = gate.enter(0.0)
    for _ in range(5):
        gate.leave(ticket, FAILED, 0.0)
    level = gate.level(0.0)
    assert level is not None
    assert (level.in_flight, level.breaker) == (0, "closed")
    assert [gate.enter(0.0).admitted for _ in range(2)] == [True, False]


def test_a_refused_ticket_given_back_changes_nothing() -> None:
    gate = gate_of(None, BreakerRule(max_concurrent=1))
    gate.enter(0.0)
    gate.leave(gate.enter(0.0), HANDLED, 0.0)
    assert not gate.enter(0.0).admitted


def test_soft_admission_is_on_the_ticket() -> None:
    gate = gate_of(RateRule(soft_per_s=10.0, hard_per_s=30.0))
    assert [(t.admitted, t.soft) for t in (gate.enter(0.0) for _ in range(4))] == [
        (True, False),
        (True, True),
        (True, True),
        (False, False),
    ]


def test_the_level_says_what_is_in_flight_with_or_without_a_breaker() -> None:
    gate = gate_of(RateRule(hard_per_s=50.0))
    ticket = gate.enter(0.0)
    assert gate.level(0.0) == GateLevel(Lane.SHADOW, "voucher.use", "none", 4.0, 1)
    gate.leave(ticket, CANCELLED, 0.0)
    assert gate.level(9.0) == GateLevel(Lane.SHADOW, "voucher.use", "none", 5.0, 0)


def test_eight_threads_are_admitted_exactly_the_bound(hammer: Hammer) -> None:
    gate = gate_of(RateRule(hard_per_s=1000.0, burst=50), BreakerRule(max_concurrent=8))
    clock = count()

    def work(_: int) -> int:
        admitted = 0
        for _turn in range(2500):
            # 20 000 readings over exactly one second; a thread may use its reading late.
            now = 500.0 + min(next(clock), 19_999) / 19_999
            ticket = gate.enter(now)
            admitted += ticket.admitted
            gate.leave(ticket, HANDLED, now)
        return admitted

    got = sum(hammer(work))
    assert got <= 1050
    assert got >= 0.98 * 1050
    level = gate.level(501.0)
    assert level is not None
    assert level.in_flight == 0


def test_eight_threads_never_exceed_the_cap(hammer: Hammer) -> None:
    stages = stages_of(None, BreakerRule(max_concurrent=3))
    gate, running, most = folded(stages, Verdict.WAIT), [], []

    def work(_: int) -> int:
        for _turn in range(400):
            ticket = gate.enter(0.0)
            if ticket.admitted:
                running.append(1)
                most.append(len(running))
                running.pop()
            gate.leave(ticket, HANDLED, 0.0)
        return 0

    hammer(work)
    assert 1 <= max(most) <= 3
    assert stages.cap.in_flight == 0


def test_eight_threads_at_one_instant_get_exactly_the_burst(hammer: Hammer) -> None:
    for _round in range(5):
        gate = gate_of(RateRule(soft_per_s=70, hard_per_s=100.0, burst=97))

        def work(_: int, gate: Gate = gate) -> int:
            return sum(gate.enter(3.0).admitted for _turn in range(200))

        assert sum(hammer(work)) == 97
