"""One state for each command of a lane, and none shared between lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shadowstream.config.model import BreakerRule, KeysRule, RateRule
from shadowstream.errors import SetupError
from shadowstream.events import GateLevel, Outcome, Transition
from shadowstream.gate import OpenGate, Verdict
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from tests.unit.gate.conftest import Ear, Hammer, MakeGates, Waits

RATE = RateRule(hard_per_s=10.0, burst=4)
BREAKER = BreakerRule(window=4, min_calls=4)


def test_all_topics_that_ask_for_a_command_share_one_gate(gates: MakeGates) -> None:
    one = gates(rates={"claim": RATE})
    assert one.gate("claim") is one.gate("claim")


def test_gates_that_differ_in_what_a_refusal_does_share_bucket_breaker_and_cap(gates: MakeGates) -> None:
    one = gates(rates={"claim": RATE}, breakers={"claim": BREAKER})
    wait, park, shed = (one.gate("claim", verdict) for verdict in (Verdict.WAIT, Verdict.PARK, Verdict.SHED))
    assert [gate.enter(0.0).admitted for gate in (wait, park, shed, wait)] == [True] * 4
    assert [gate.enter(0.0).verdict for gate in (wait, park, shed)] == [Verdict.WAIT, Verdict.PARK, Verdict.SHED]
    assert one.levels(0.0) == [GateLevel(Lane.SHADOW, "claim", "closed", 0.0, 4)]


def test_shadow_on_the_normal_rate_has_its_own_bucket_and_its_own_breaker(gates: MakeGates) -> None:
    values = {"rates": {"claim": RATE}, "breakers": {"claim": BREAKER}}
    normal, shadow = gates(lane=Lane.NORMAL, **values), gates(lane=Lane.SHADOW, **values)
    flooded, calm = shadow.gate("claim"), normal.gate("claim")
    for _ in range(4):
        flooded.leave(flooded.enter(0.0), Outcome.FAILED, 0.0)
    assert flooded.enter(0.0).by == "breaker"
    assert [calm.enter(0.0).admitted for _ in range(4)] == [True] * 4
    assert calm.enter(0.0).by == "rate"
    assert [level.breaker for level in (*normal.levels(0.0), *shadow.levels(0.0))] == ["closed", "open"]
    assert normal.circuit("claim") is not shadow.circuit("claim")


def test_the_default_rate_gives_each_command_a_bucket_of_its_own(gates: MakeGates) -> None:
    one = gates(default_rate=RATE, rates={"free": None})
    assert [one.gate("a").enter(0.0).admitted for _ in range(5)] == [True] * 4 + [False]
    assert one.gate("b").enter(0.0).admitted
    assert isinstance(one.gate("free"), OpenGate)


def test_a_null_breaker_is_no_breaker(gates: MakeGates) -> None:
    one = gates(breakers={"claim": None})
    assert isinstance(one.gate("claim"), OpenGate)
    assert one.circuit("claim") is None
    assert one.levels(0.0) == []


def test_a_refusal_that_admits_is_a_setup_error(gates: MakeGates) -> None:
    with pytest.raises(SetupError, match="use wait, park or shed"):
        gates().gate("claim", Verdict.ADMIT)


def test_the_circuit_forces_the_gate_and_the_hooks_hear_of_it_at_once(gates: MakeGates, ear: Ear) -> None:
    one = gates(breakers={"claim": BREAKER})
    circuit = one.circuit("claim")
    assert circuit is not None
    circuit.open()
    assert ear.heard == [Transition(Lane.SHADOW, "claim", "closed", "open", "forced")]
    assert one.gate("claim").enter(5.0).by == "breaker"


def test_the_circuit_is_named_after_its_lane_and_command(gates: MakeGates) -> None:
    names = [
        circuit.name
        for lane in Lane
        if (circuit := gates(lane=lane, breakers={"claim": BREAKER}).circuit("claim")) is not None
    ]
    assert names == ["claim", "shadow.claim"]


def test_a_command_has_one_keyed_limit_or_none(gates: MakeGates) -> None:
    one = gates(key_limits={"claim": KeysRule(("user_id",), 1.0), "free": None})
    limit = one.keyed("claim")
    assert limit is not None
    assert limit is one.keyed("claim")
    assert one.keyed("free") is None
    assert one.keyed("unknown") is None


def test_asking_for_a_gate_waits_for_who_asked_before(gates: MakeGates, waits_for: Waits) -> None:
    one = gates(rates={"claim": RATE}, key_limits={"claim": KeysRule(("user_id",), 1.0)})
    assert waits_for(one._lock, lambda: one.gate("claim"))
    assert waits_for(one._lock, lambda: one.keyed("claim"))
    assert waits_for(one._lock, lambda: one.circuit("claim"))
    assert waits_for(one._lock, lambda: one.levels(0.0))


def test_eight_threads_asking_at_once_get_one_state(gates: MakeGates, hammer: Hammer) -> None:
    for _round in range(20):
        one = gates(rates={"claim": RATE}, key_limits={"claim": KeysRule(("user_id",), 1.0)})

        def work(number: int, one: object = one) -> int:
            verdict = (Verdict.WAIT, Verdict.PARK)[number % 2]
            return sum(one.gate("claim", verdict).enter(0.0).admitted for _ in range(5))  # type: ignore[attr-defined]

        assert sum(hammer(work)) == 4
