"""What a process holds of a shared limit: leases that become good, and a share of its own while it is cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.config.model import RateRule
from shadowstream.gate import RateLimit, Ticket
from shadowstream.gate.fleet.stock import COMING_S, HELD, Stock
from shadowstream.gate.rate import RE_ASK_S


class Rig:
    """A stock and whoever it nudges."""

    def __init__(self, rate_per_s: float = 100.0, burst: int = 10) -> None:
        self.nudges = 0
        self.stock = Stock("claim", rate_per_s, burst, self.nudge)

    def nudge(self) -> None:
        self.nudges += 1

    def admitted(self, now: float, most: int = 1000) -> int:
        for number in range(most):
            if self.stock.check(now):
                return number
            self.stock.take()
        return most


def test_nothing_is_admitted_before_a_lease_has_come_and_one_nudge_is_enough() -> None:
    rig = Rig()
    assert [rig.stock.check(0.0) for _ in range(5)] == [COMING_S] * 5
    assert rig.nudges == 1
    assert rig.stock.wanted(0.0) == 1


def test_a_lease_is_good_from_its_moment_on_and_only_for_so_many() -> None:
    rig = Rig()
    rig.stock.leased(7, 1.5, members=2)
    assert rig.stock.check(1.0) == pytest.approx(0.5)
    assert rig.stock.tokens(1.0) == 0
    assert (rig.stock.tokens(1.5), rig.admitted(1.5)) == (7, 7)


def test_two_leases_are_held_and_the_next_one_is_fetched_while_the_last_is_used() -> None:
    rig = Rig()
    for _ in range(HELD):
        rig.stock.check(0.0)
        assert rig.stock.wanted(0.0)
        rig.stock.leased(5, 0.0, members=2)
    assert rig.stock.wanted(0.0) == 0
    assert rig.admitted(0.0, most=5) == 5
    assert rig.stock.wanted(0.0) == rig.stock.size == 5, "a tenth of a second of half the rate"


def test_where_nothing_is_to_be_had_nobody_asks_before_it_is() -> None:
    rig = Rig(rate_per_s=0.1, burst=1)
    rig.stock.check(0.0)
    rig.stock.leased(0, 8.0, members=1)
    nudges = rig.nudges
    assert rig.stock.check(1.0) == pytest.approx(7.0)
    assert (rig.stock.wanted(1.0), rig.stock.again_s(1.0), rig.nudges) == (0, pytest.approx(7.0), nudges)
    assert rig.stock.wanted(8.0) == 1


def test_a_rate_of_nought_asks_nobody() -> None:
    rig = Rig(rate_per_s=0.0)
    assert (rig.stock.check(0.0), rig.nudges) == (RE_ASK_S, 0)


def test_what_was_leased_before_is_used_while_cut_off() -> None:
    rig = Rig()
    rig.stock.leased(5, 0.0, members=4)
    rig.stock.stand_still()
    assert rig.admitted(0.0) == 5


@given(members=st.integers(1, 8), steps=st.lists(st.floats(0.0, 0.5), max_size=60))
def test_alone_it_goes_by_its_share_and_begins_without_a_burst(members: int, steps: list[float]) -> None:
    rig = Rig(rate_per_s=80.0, burst=16)
    rig.stock.leased(0, 0.0, members=members)
    rig.stock.go_alone(0.0)
    now, total = 0.0, 0
    for step in steps:
        now += step
        total += rig.admitted(now)
        rig.stock.go_alone(now)
        assert total <= 80.0 / members * now + 1e-6, "not even a burst's worth more"


def test_back_with_the_others_its_share_is_gone() -> None:
    rig = Rig()
    rig.stock.go_alone(0.0)
    rig.stock.leased(3, 5.0, members=2)
    assert not rig.stock.alone
    assert rig.admitted(5.0) == 3


def test_the_soft_rate_is_a_share_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    limit = RateLimit(RateRule(soft_per_s=40.0, hard_per_s=100.0, burst=8, fleet=True), rig.stock)
    rig.stock.leased(100, 0.0, members=4)
    soft = 0
    for _ in range(20):
        assert limit.check(0.0) == 0.0
        limit.take(ticket := Ticket())
        soft += ticket.soft
    assert soft == 18, "a quarter of a burst of eight is not soft"
    assert limit.tokens(0.0) == 80
