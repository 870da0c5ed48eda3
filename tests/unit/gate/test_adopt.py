"""Other rules while calls are decided: what is known of the calls stays, and nobody is given a burst for the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.config.model import BreakerRule, KeysRule, RateRule
from shadowstream.events import Outcome
from shadowstream.gate import Bucket, Chain, KeyedLimit, OpenGate, RateLimit, Ticket
from shadowstream.gate.fleet import Stock
from shadowstream.lane import Lane
from tests.lanes import lane_of
from tests.unit.gate.conftest import Elsewhere

if TYPE_CHECKING:
    from shadowstream.gate import Gate, Gates
    from tests.unit.gate.conftest import Ear, Hammer, MakeGates

HANDLED, FAILED = Outcome.HANDLED, Outcome.FAILED
RATE = RateRule(hard_per_s=10.0, burst=5)
BREAKER = BreakerRule(window=4, min_calls=4, open_for_s=30.0, half_open=1)


def adopt(gates: Gates, now: float, **fields: Any) -> None:
    gates.adopt(lane_of(**fields), now)


def admitted(gate: Gate, now: float, times: int = 100) -> int:
    return sum(gate.enter(now).admitted for _ in range(times))


def test_a_rate_that_is_raised_admits_no_more_at_once_than_it_would_have(gates: MakeGates) -> None:
    made = gates(rates={"claim": RATE})
    gate = made.gate("claim")
    assert admitted(gate, 0.0) == 5
    adopt(made, 0.25, rates={"claim": RateRule(hard_per_s=1000.0, burst=500)})
    assert admitted(gate, 0.25) == 2
    assert admitted(gate, 0.26) == 10
    assert admitted(gate, 9.0, 1000) == 500


def test_a_rate_that_is_lowered_is_gone_by_with_the_next_decision(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=1000.0, burst=500)})
    gate = made.gate("claim")
    assert admitted(gate, 0.0, 10) == 10
    adopt(made, 0.0, rates={"claim": RATE})
    assert admitted(gate, 0.0) == 5
    assert admitted(gate, 1.0) == 5
    assert gate.enter(1.0).wait_s == pytest.approx(0.1)


def test_a_rate_of_0_closes_at_once_and_opens_again_without_a_burst(gates: MakeGates) -> None:
    made = gates(rates={"claim": RATE})
    gate = made.gate("claim")
    adopt(made, 0.0, rates={"claim": RateRule(hard_per_s=0.0)})
    assert admitted(gate, 60.0) == 0
    adopt(made, 60.0, rates={"claim": RATE})
    assert admitted(gate, 60.0) == 0
    assert admitted(gate, 60.1) == 1


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.floats(0.0, 2.0),
            st.sampled_from([0.0, 1.0, 10.0, 1000.0]),
            st.sampled_from([None, 1, 7, 300]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_it_is_changed_to_nothing_is_admitted_beyond_the_first_burst_and_what_each_rate_gives(
    changes: list[tuple[float, float, int | None]],
) -> None:
    bucket, now, count = Bucket(10.0, 5), 0.0, 0
    allowed, rate, highest = 5.0, 10.0, 5.0

    def take() -> int:
        taken = 0
        while bucket.check(now) == 0.0:
            bucket.content += 1.0
            taken += 1
        return taken

    count += take()
    for later_s, to_rate, to_burst in changes:
        now += later_s
        allowed += later_s * rate
        count += take()
        bucket.adopt(to_rate, to_burst, now)
        rate, highest = to_rate, max(highest, bucket.burst)
        assert take() == 0 or later_s * rate >= 0
        assert count <= allowed + 1e-6
    now += 5.0
    assert count + take() <= allowed + 5.0 * rate + 1e-6


def test_a_limit_where_there_was_none_begins_without_its_burst(gates: MakeGates) -> None:
    made = gates()
    assert isinstance(made.gate("claim"), OpenGate)
    adopt(made, 7.0, rates={"claim": RATE})
    gate = made.gate("claim")
    assert isinstance(gate, Chain)
    assert admitted(gate, 7.0) == 0
    assert admitted(gate, 8.0) == 5


def test_a_limit_that_is_taken_away_refuses_nobody_who_holds_its_gate(gates: MakeGates) -> None:
    made = gates(rates={"claim": RATE}, breakers={"claim": BREAKER})
    gate = made.gate("claim")
    tickets = [gate.enter(0.0) for _ in range(5)]
    adopt(made, 0.0)
    assert admitted(gate, 0.0) == 100
    for ticket in tickets:
        gate.leave(ticket, FAILED, 0.0)
    (level,) = made.levels(0.0)
    assert (level.breaker, level.tokens) == ("none", None)  # type: ignore[union-attr]


def test_the_default_rate_changes_for_every_command_that_goes_by_it(gates: MakeGates) -> None:
    made = gates(default_rate=RATE)
    first, second = made.gate("a"), made.gate("b")
    assert admitted(first, 0.0) == admitted(second, 0.0) == 5
    adopt(made, 0.0, default_rate=RateRule(hard_per_s=2.0), rates={"b": RATE})
    assert admitted(first, 1.0) == 1
    assert admitted(second, 1.0) == 5


def test_a_soft_limit_marks_by_the_new_rate(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(soft_per_s=1.0, hard_per_s=100.0, burst=1)})
    gate = made.gate("claim")
    assert [gate.enter(at).soft for at in (0.0, 0.5)] == [False, True]
    adopt(made, 1.0, rates={"claim": RateRule(soft_per_s=50.0, hard_per_s=100.0, burst=1)})
    assert [gate.enter(at).soft for at in (1.0, 1.1, 1.2)] == [False, False, False]


def test_dry_run_and_back_keeps_the_bucket(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=10.0, burst=5, dry_run=True)})
    gate = made.gate("claim")
    assert [gate.enter(0.0).dry for _ in range(7)] == [""] * 5 + ["rate"] * 2
    adopt(made, 0.0, rates={"claim": RATE})
    assert admitted(gate, 0.0) == 0
    assert admitted(gate, 0.1) == 1
    adopt(made, 0.1, rates={"claim": RateRule(hard_per_s=10.0, burst=5, dry_run=True)})
    assert gate.enter(0.1).dry == "rate"


def test_dry_run_and_back_keeps_the_window_of_the_breaker(gates: MakeGates) -> None:
    dry = BreakerRule(window=4, min_calls=4, dry_run=True)
    made = gates(breakers={"claim": dry})
    gate = made.gate("claim")
    for _ in range(3):
        gate.leave(gate.enter(0.0), FAILED, 0.0)
    adopt(made, 0.0, breakers={"claim": BREAKER})
    gate.leave(gate.enter(0.0), FAILED, 0.0)
    assert gate.enter(0.0).by == "breaker"


def test_the_calls_of_the_window_count_under_another_threshold(gates: MakeGates) -> None:
    made = gates(breakers={"claim": BreakerRule(window=10, min_calls=4, failure_rate=1.0)})
    gate = made.gate("claim")
    for outcome in (HANDLED, FAILED, FAILED, FAILED):
        gate.leave(gate.enter(0.0), outcome, 0.0)
    assert gate.enter(0.0).admitted
    adopt(made, 0.0, breakers={"claim": BreakerRule(window=10, min_calls=4, failure_rate=0.5)})
    gate.leave(gate.enter(0.0), FAILED, 0.0)
    assert gate.enter(0.0).by == "breaker"


def test_an_open_breaker_stays_open_and_for_no_longer_than_the_new_rule_says(gates: MakeGates) -> None:
    made = gates(breakers={"claim": BREAKER})
    gate = made.gate("claim")
    for _ in range(4):
        gate.leave(gate.enter(0.0), FAILED, 0.0)
    adopt(made, 1.0, breakers={"claim": BreakerRule(window=4, min_calls=4, open_for_s=2.0, half_open=1)})
    assert gate.enter(1.0).by == "breaker"
    assert gate.enter(2.9).by == "breaker"
    assert gate.enter(3.0).admitted


def test_a_half_open_breaker_closes_although_it_is_to_give_fewer_permits_than_it_gave(gates: MakeGates) -> None:
    made = gates(breakers={"claim": BreakerRule(window=4, min_calls=4, open_for_s=1.0, half_open=3)})
    gate = made.gate("claim")
    for _ in range(4):
        gate.leave(gate.enter(0.0), FAILED, 0.0)
    assert gate.enter(0.0).by == "breaker"
    trials = [gate.enter(1.0) for _ in range(2)]
    adopt(made, 1.0, breakers={"claim": BreakerRule(window=4, min_calls=4, open_for_s=1.0, half_open=1)})
    for trial in trials:
        gate.leave(trial, HANDLED, 1.0)
    assert [gate.enter(1.0).admitted for _ in range(5)] == [True] * 5


def test_a_cap_changes_and_whoever_is_in_stays_in(gates: MakeGates) -> None:
    made = gates(breakers={"claim": BreakerRule(max_concurrent=3)})
    gate = made.gate("claim")
    inside = [gate.enter(0.0) for _ in range(3)]
    adopt(made, 0.0, breakers={"claim": BreakerRule(max_concurrent=1)})
    for ticket in inside[:2]:
        gate.leave(ticket, HANDLED, 0.0)
        assert gate.enter(0.0).by == "cap"
    gate.leave(inside[2], HANDLED, 0.0)
    assert gate.enter(0.0).admitted
    adopt(made, 0.0, breakers={"claim": BreakerRule(max_concurrent=0)})
    assert gate.enter(0.0).by == "cap"
    adopt(made, 0.0, breakers={"claim": BreakerRule(max_concurrent=None)})
    assert admitted(gate, 0.0) == 100


def test_a_limit_that_is_to_warm_up_from_now_on_is_warm(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=100.0, burst=100)})
    gate = made.gate("claim")
    assert admitted(gate, 0.0, 200) == 100
    adopt(made, 1.0, rates={"claim": RateRule(hard_per_s=100.0, burst=100, warm_up_s=10.0)})
    assert admitted(gate, 1.0, 200) == 100


def test_a_limit_goes_on_warming_up_from_where_it_was_when_its_rate_changes(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=100.0, burst=100, warm_up_s=10.0)})
    gate = made.gate("claim")
    assert admitted(gate, 0.0, 200) == 10
    gate.enter(4.9)
    adopt(made, 5.0, rates={"claim": RateRule(hard_per_s=200.0, burst=100, warm_up_s=10.0)})
    admitted(gate, 5.0, 500)
    # Half way, and a tenth at the beginning: 55 of 100.
    assert sum(gate.enter(5.0 + each / 1000).admitted for each in range(1, 101)) == pytest.approx(11, abs=2)


def test_a_limit_that_need_not_warm_up_any_more_is_open(gates: MakeGates) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=100.0, burst=10, warm_up_s=60.0)})
    gate = made.gate("claim")
    admitted(gate, 0.0)
    adopt(made, 0.0, rates={"claim": RateRule(hard_per_s=100.0, burst=10)})
    assert admitted(gate, 10.0) == 10


KEYS = KeysRule(("user",), 1.0, 2)


def test_a_limited_key_stays_limited_under_another_rate_and_each_by_its_own(gates: MakeGates) -> None:
    made = gates(key_limits={"claim": KEYS})
    limit = made.keyed("claim")
    assert limit is not None
    one, other = {"user": "1"}, {"user": "2"}
    assert [limit.enter(one, 0.0).admitted for _ in range(3)] == [True, True, False]
    rule = KeysRule(("user",), 10.0, 20, overrides={"user": {"2": 0.0}})
    adopt(made, 0.0, key_limits={"claim": rule})
    assert made.keyed("claim") is limit
    assert not limit.enter(one, 0.0).admitted
    assert [limit.enter(one, at).admitted for at in (0.1, 0.2)] == [True, True]
    assert not limit.enter(other, 0.2).admitted


def test_other_fields_are_looked_at_by_whoever_asks_for_the_gate_anew(gates: MakeGates) -> None:
    made = gates(key_limits={"claim": KEYS})
    as_given = lambda _: lambda values: values  # noqa: E731 - the finder of values that are given by name
    adopt(made, 0.0, key_limits={"claim": KeysRule(("shop",), 1.0, 1)})
    gate = made.gate("claim", values=as_given)
    assert gate.enter(0.0, {"shop": "1", "user": "1"}).admitted
    assert not gate.enter(0.0, {"shop": "1", "user": "2"}).admitted
    adopt(made, 0.0, key_limits={"claim": None})
    assert made.keyed("claim") is None
    assert isinstance(made.gate("claim", values=as_given), OpenGate)


def test_a_table_of_keys_that_admit_nothing_is_looked_through_without_an_error() -> None:
    limit = KeyedLimit(KeysRule(("user",), 1.0, 1, max_keys=2))
    for user in range(2):
        assert limit.enter({"user": user}, 0.0).admitted
    limit.adopt(KeysRule(("user",), 0.0, 1, max_keys=2, overrides={"user": {"9": 5.0}}))
    for user in (0, 1, 9):
        assert not limit.enter({"user": user}, 0.0).admitted


def test_what_is_leased_stays_good_unless_the_limit_is_0() -> None:
    stock = Stock("claim", 100.0, 10, lambda: None)
    stock.leased(10, 0.0, 1)
    stock.adopt(50.0, None, 0.0)
    assert (stock.rate_per_s, stock.burst, stock.tokens(0.0)) == (50.0, 5, 10.0)
    stock.adopt(0.0, None, 0.0)
    assert (stock.tokens(0.0), stock.again_s(0.0)) == (0.0, float("inf"))
    assert stock.check(0.0) == 1.0


def test_rules_that_change_while_others_decide_leave_nobody_inside(gates: MakeGates, hammer: Hammer) -> None:
    made = gates(rates={"claim": RATE}, breakers={"claim": BREAKER})
    gate = made.gate("claim")
    rules = [
        {"rates": {"claim": RATE}, "breakers": {"claim": BREAKER}},
        {"breakers": {"claim": BreakerRule(max_concurrent=2)}},
        {"rates": {"claim": RateRule(hard_per_s=1e6, dry_run=True)}},
        {},
    ]

    def work(number: int) -> int:
        for turn in range(500):
            if number < 2:
                adopt(made, turn / 100, **rules[(turn + number) % len(rules)])
            else:
                ticket = gate.enter(turn / 100)
                gate.leave(ticket, HANDLED, turn / 100)
        return 0

    hammer(work)
    (level,) = made.levels(0.0)
    assert level.in_flight == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("members", "soft_per_s"), [(1, 40.0), (4, 10.0)])
def test_a_limit_that_is_shared_from_now_on_is_told_and_its_soft_rate_is_a_share(
    members: int, soft_per_s: float
) -> None:
    limit, shared = RateLimit(RateRule(hard_per_s=1.0, soft_per_s=1.0, burst=1)), Elsewhere(members)
    limit.adopt(RateRule(hard_per_s=100.0, soft_per_s=40.0, burst=1, on_soft="wait", fleet=True), shared, 5.0)
    assert shared.adopted == [(100.0, 1, 5.0)]
    assert limit.check(5.0) == 0.0
    limit.take(ticket := Ticket())
    assert not ticket.soft
    assert limit.check(5.0) == pytest.approx(1 / soft_per_s), "it waits for the soft rate, and not for the hard one"
    limit.adopt(RateRule(soft_per_s=40.0, burst=7, fleet=True), shared, 6.0)
    assert shared.adopted[1:] == [(0.0, 7, 6.0)]
    tickets = [Ticket() for _ in range(9)]
    for ticket in tickets:
        assert limit.check(60.0) == 0.0
        limit.take(ticket)
    assert sum(not ticket.soft for ticket in tickets) == max(7 // members, 1)
    assert shared.taken == 1 + 9


def test_a_part_of_the_rates_stays_one_when_they_change() -> None:
    limit = RateLimit(RateRule(hard_per_s=10.0, burst=1))
    limit.tune(0.5, 0.0)
    limit.portion(0.5, 0.0)
    limit.adopt(RateRule(hard_per_s=40.0, burst=1), None, 0.0)
    limit.take(Ticket())
    assert limit.check(0.0) == pytest.approx(0.1), "a quarter of 40/s"


def test_a_limit_that_is_new_has_the_burst_that_it_says_and_begins_without_it(gates: MakeGates) -> None:
    made = gates()
    made.gate("claim")
    adopt(made, 0.0, rates={"claim": RateRule(hard_per_s=10.0, burst=7)})
    gate = made.gate("claim")
    assert admitted(gate, 0.0) == 0
    assert admitted(gate, 60.0) == 7


def test_a_breaker_where_there_was_none_is_one(gates: MakeGates, ear: Ear) -> None:
    made = gates(rates={"claim": RateRule(hard_per_s=1e6)})
    gate = made.gate("claim")
    adopt(made, 0.0, rates={"claim": RateRule(hard_per_s=1e6)}, breakers={"claim": BREAKER})
    for _ in range(4):
        gate.leave(gate.enter(0.0), FAILED, 0.0)
    assert gate.enter(0.0).by == "breaker"
    assert [(each.lane, each.command, each.after) for each in ear.heard] == [(Lane.SHADOW, "claim", "open")]
    made.circuit("claim").close()
    assert gate.enter(0.0).admitted
