"""A rule in dry run decides and counts as ever, and refuses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shadowstream.config.model import BreakerRule, KeysRule, RateRule
from shadowstream.events import Outcome, Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.unit.gate.conftest import Ear, MakeGates

RATE = RateRule(hard_per_s=1.0, burst=2)
BREAKER = BreakerRule(window=2, min_calls=2, open_for_s=10.0, half_open=1)


def told(gates: MakeGates, moments: list[float], **rules: Any) -> list[tuple[bool, str]]:
    """Ask a command's gate at some moments; return whether it admitted, and which stage refused or would have."""
    gate = gates(**rules).gate("claim")
    tickets = [gate.enter(now) for now in moments]
    return [(ticket.admitted, ticket.by or ticket.dry) for ticket in tickets]


def test_a_rate_in_dry_run_says_yes_where_it_would_say_no_and_the_same_ones_are_told_apart(gates: MakeGates) -> None:
    moments = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 2.5]
    enforced = told(gates, moments, rates={"claim": RATE})
    dry = told(gates, moments, rates={"claim": replace(RATE, dry_run=True)})
    assert [by for _, by in dry] == [by for _, by in enforced] == ["", "", "rate", "rate", "", "rate", ""]
    assert all(admitted for admitted, _ in dry)


def test_a_rate_in_dry_run_takes_nothing_when_another_stage_refuses(gates: MakeGates) -> None:
    rules = {"rates": {"claim": replace(RATE, dry_run=True)}, "breakers": {"claim": replace(BREAKER, max_concurrent=1)}}
    gate = gates(**rules).gate("claim")
    first = gate.enter(0.0)
    assert [gate.enter(0.0).by for _ in range(5)] == ["cap"] * 5
    gate.leave(first, Outcome.HANDLED, 0.0)
    assert (gate.enter(0.0).dry, first.dry) == ("", ""), "one of two was taken"


def test_a_breaker_in_dry_run_opens_and_closes_for_those_who_watch_it_and_admits_all(
    gates: MakeGates, ear: Ear
) -> None:
    gate = gates(breakers={"claim": replace(BREAKER, dry_run=True)}).gate("claim")

    def call(now: float, outcome: Outcome) -> str:
        ticket = gate.enter(now)
        assert ticket.admitted
        gate.leave(ticket, outcome, now)
        return ticket.dry

    assert [call(0.0, Outcome.FAILED) for _ in range(2)] == ["", ""]
    assert [call(1.0, Outcome.HANDLED) for _ in range(5)] == ["breaker"] * 5, "they are nothing to it"
    trial, beside = gate.enter(11.0), gate.enter(11.0)
    assert (trial.dry, beside.dry) == ("", "breaker")
    gate.leave(beside, Outcome.FAILED, 11.0)
    gate.leave(trial, Outcome.HANDLED, 11.0)
    assert call(12.0, Outcome.HANDLED) == ""
    assert [each.after for each in ear.heard if isinstance(each, Transition)] == ["open", "half-open", "closed"]


def test_a_cap_in_dry_run_says_who_came_too_many(gates: MakeGates) -> None:
    gate = gates(breakers={"claim": replace(BREAKER, max_concurrent=2, dry_run=True)}).gate("claim")
    tickets = [gate.enter(0.0) for _ in range(4)]
    assert [ticket.dry for ticket in tickets] == ["", "", "cap", "cap"]
    for ticket in tickets:
        gate.leave(ticket, Outcome.HANDLED, 0.0)
    assert gate.enter(0.0).dry == ""


def by_user(_: Iterable[str]) -> Callable[[object], dict[str, object]]:
    """Take whatever the gate is asked about for the user."""
    return lambda user: {"user": user}


def test_a_limit_by_keys_in_dry_run_says_whom_it_would_have_refused_with_and_without_other_rules(
    gates: MakeGates,
) -> None:
    keys = {"claim": KeysRule(("user",), hard_per_s=1.0, burst=1, dry_run=True)}
    for rules in ({}, {"rates": {"claim": RateRule(hard_per_s=100.0, burst=10)}}):
        gate = gates(key_limits=keys, **rules).gate("claim", values=by_user)
        tickets = [gate.enter(0.0, user) for user in (1, 1, 2, 2, 1)]
        assert [(ticket.admitted, ticket.dry) for ticket in tickets] == [
            (True, each) for each in ("", "keys", "", "keys", "keys")
        ]


def test_a_rule_that_refuses_stands_beside_one_in_dry_run(gates: MakeGates) -> None:
    rules = {"rates": {"claim": RATE}, "breakers": {"claim": replace(BREAKER, max_concurrent=1, dry_run=True)}}
    assert told(gates, [0.0, 0.0, 0.0], **rules) == [(True, ""), (True, "cap"), (False, "rate")]
