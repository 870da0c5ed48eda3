"""One state for each command of a lane, and none shared between lanes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest

from shadowstream.config import FleetSettings
from shadowstream.config.model import BreakerRule, KeysRule, RateRule
from shadowstream.errors import SetupError
from shadowstream.events import GateLevel, Listeners, Outcome, Transition
from shadowstream.gate import Gates, OpenGate, Verdict
from shadowstream.gate.fleet import RunGate, Runs, Stock
from shadowstream.lane import Lane, Mark, entered
from tests.lanes import lane_of
from tests.unit.gate.conftest import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


class Heard:
    """A clerk that remembers how it was made, and what it was asked for."""

    made: ClassVar[list[Heard]] = []

    def __init__(self, lane: Lane, fleet: FleetSettings, *, lay_over: object, armed: object) -> None:
        self.lane, self.fleet, self.lay_over, self.armed = lane, fleet, lay_over, armed
        self.runs, self.trips, self.ended = Runs(), self, False
        self.joined: dict[str, object] = {}
        Heard.made.append(self)

    def stock(self, command: str, rate: RateRule) -> Stock:
        assert rate.hard_per_s is not None
        return Stock(command, rate.hard_per_s, 1, lambda: None)

    def say(self, command: str, until: float) -> None: ...

    def join(self, command: str, open_for: object) -> None:
        self.joined[command] = open_for

    def leave(self, command: str) -> None:
        self.joined.pop(command, None)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def clerks(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    monkeypatch.setattr("shadowstream.gate.gates.Clerk", Heard)
    monkeypatch.setattr(Heard, "made", [])
    return Heard.made


FLEET = FleetSettings(service="tests", url="redis://localhost:1", lease=True)
OF_ALL = BreakerRule(fleet=True)


def test_a_lane_has_one_clerk_which_it_makes_when_something_is_shared(gates: MakeGates, clerks: list[Heard]) -> None:
    assert gates(fleet=replace(FLEET, lease=False)).gate("claim")
    assert gates(rates={"claim": RateRule(hard_per_s=1.0, fleet=True)}).gate("claim")
    assert clerks == []
    made = gates(
        fleet=FLEET,
        rates={"claim": RateRule(hard_per_s=9.0, fleet=True), "own": RateRule(hard_per_s=9.0)},
        breakers={"claim": OF_ALL, "own": BreakerRule()},
    )
    lay_over = object()
    made.hear(lay_over)  # type: ignore[arg-type]
    assert isinstance(made.gate("claim"), RunGate)
    assert isinstance(made.gate("own"), RunGate)
    (clerk,) = clerks
    assert (clerk.lane, clerk.fleet, clerk.lay_over, clerk.armed) == (Lane.SHADOW, FLEET, lay_over, None)
    assert made._of("claim").rate._shared.command == "claim"
    assert made._of("own").rate._shared is None
    made.adopt(
        lane_of(fleet=FLEET, rates={"claim": RateRule(hard_per_s=9.0), "own": RateRule(hard_per_s=9.0, fleet=True)}),
        0.0,
    )
    assert made._of("claim").rate._shared is None
    assert made._of("own").rate._shared.command == "own"
    made.hear(other := object())  # type: ignore[arg-type]
    assert clerk.lay_over is other
    made.close()
    made.close()
    assert clerk.ended


def test_a_breaker_opens_with_those_of_the_others_as_long_as_its_rule_says_so(
    gates: MakeGates, clerks: list[Heard]
) -> None:
    fleet = replace(FLEET, lease=False)
    made = gates(fleet=fleet, breakers={"claim": OF_ALL, "none": None})
    made.gate("claim")
    made.gate("none")
    assert clerks[0].fleet == fleet
    breaker = made._of("claim").breaker
    assert (clerks[0].joined, breaker.say) == ({"claim": breaker.open_for}, clerks[0].say)
    made.adopt(lane_of(fleet=FLEET, breakers={"claim": BreakerRule()}), 0.0)
    assert (clerks[0].joined, breaker.say) == ({}, None)
    made.adopt(lane_of(fleet=FLEET, breakers={"claim": OF_ALL}), 0.0)
    assert clerks[0].joined == {"claim": breaker.open_for}


def test_whoever_arms_a_run_anew_releases_the_guard(clerks: list[Heard]) -> None:
    guard = Held()
    made = Gates(lane_of(fleet=FLEET), Listeners(), guard)  # type: ignore[arg-type]
    made.gate("claim")
    assert clerks[0].armed == guard.release


def test_whoever_asks_passes_its_runs_lease_then_its_keys_then_the_commands_gate(
    gates: MakeGates, clerks: list[Heard]
) -> None:
    fields: list[object] = []

    def finder(names: Iterable[str]) -> Callable[[object], dict[str, object]]:
        fields.append(names)
        return lambda _: {"user_id": 1}

    keys = KeysRule(("user_id",), hard_per_s=1.0, burst=2)
    made = gates(fleet=FLEET, key_limits={"claim": keys}, rates={"claim": RateRule(hard_per_s=1.0, burst=1)})
    gate = made.gate("claim", Verdict.PARK, finder)
    assert fields == [("user_id",)]
    clerks[0].runs.heard({"a": 60.0}, 0.0)
    with entered(Mark(run="b")):
        refused = gate.enter(0.0)
    assert (refused.verdict, refused.by) == (Verdict.PARK, "run")
    with entered(Mark(run="a")):
        tickets = [gate.enter(now) for now in (0.0, 0.0, 1.0, 1.5, 2.9)]
    assert [each.by for each in tickets] == ["", "rate", "", "rate", ""]
    assert made.gate("claim", Verdict.PARK)._gate is gate._gate._gate, "without a finder there is no limit by keys"


def test_the_guard_leaves_of_a_shared_rate_this_processs_part(clerks: list[Heard]) -> None:
    rates = {"claim": RateRule(hard_per_s=9.0, fleet=True)}
    made = Gates(lane_of(fleet=FLEET, rates=rates), Listeners(), Held())  # type: ignore[arg-type]
    made.gate("claim")
    stages = made._of("claim")
    assert stages.share._shared is stages.rate._shared
    stages.rate._shared.members = 3
    assert stages.share._own() == (3.0, 1)
