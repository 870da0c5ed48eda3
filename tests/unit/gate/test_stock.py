"""What a process holds of a shared limit: leases that become good, and a share of its own while it is cut off."""

from __future__ import annotations

from math import inf

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


def test_alone_it_has_its_share_to_the_last_message() -> None:
    rig = Rig(rate_per_s=80.0, burst=16)
    rig.stock.leased(0, 100.0, members=4)
    rig.stock.go_alone(0.0)
    assert rig.stock.alone
    assert [rig.admitted(second) for second in (0.0, 0.05, 0.1, 10.0)] == [0, 1, 1, 4], "20/s, and a burst of 16 / 4"
    assert rig.stock.check(10.0) == pytest.approx(0.05)
    assert rig.stock.tokens(10.1) == pytest.approx(2.0)
    rig.stock.go_alone(10.1)
    assert rig.admitted(10.1) == 2, "it is alone already, and nothing begins anew"


def test_alone_what_is_left_of_a_lease_is_used_beside_the_share() -> None:
    rig = Rig(rate_per_s=10.0, burst=1)
    rig.stock.leased(3, 5.0, members=1)
    rig.stock.go_alone(0.0)
    assert rig.admitted(1.0) == 1, "the share's; the lease is not good yet"
    assert rig.stock.check(1.0) == pytest.approx(0.1), "the share is there before the lease"
    assert rig.stock.check(4.95) == 0.0
    rig.stock.take()
    assert rig.stock.check(4.96) == pytest.approx(0.04), "the lease is there before the share"
    assert rig.stock.tokens(5.0) == pytest.approx(3.5)
    assert rig.admitted(5.0) == 3
    assert rig.stock.check(5.0) == pytest.approx(0.05), "back to the share, which was used 0.05 s ago"


def test_alone_and_at_a_small_share_it_is_asked_again_within_a_second() -> None:
    rig = Rig(rate_per_s=0.1, burst=1)
    rig.stock.go_alone(0.0)
    assert rig.stock.check(1.0) == RE_ASK_S


def test_a_change_of_the_rate_changes_the_share_and_keeps_what_is_leased() -> None:
    rig = Rig(rate_per_s=80.0, burst=16)
    rig.stock.leased(2, 0.0, members=2)
    rig.stock.go_alone(0.0)
    rig.stock.adopt(40.0, 9, 0.0)
    assert rig.admitted(0.0) == 2
    assert [rig.admitted(second) for second in (0.05, 0.1, 10.0)] == [1, 1, 4], "20/s, and a burst of 9 // 2"
    rig.stock.adopt(0.5, 1, 10.0)
    assert rig.stock.check(11.0) == RE_ASK_S, "a quarter of a message a second"
    assert rig.admitted(100.0) == 1
    rig.stock.leased(5, 20.0, members=1)
    rig.stock.adopt(0.0, None, 20.0)
    assert rig.admitted(21.0) == 0


def test_a_low_rate_keeps_its_leases() -> None:
    rig = Rig()
    rig.stock.leased(5, 0.0, members=1)
    rig.stock.adopt(0.5, None, 0.0)
    assert rig.admitted(0.0) == 5
    assert rig.stock.burst == 1


def test_how_far_ahead_the_last_lease_lies_is_told() -> None:
    rig = Rig()
    assert (rig.stock.alone, rig.stock.members, rig.stock.ahead_s(0.0)) == (False, 1, 0.0)
    rig.stock.leased(5, 2.0, members=0)
    assert (rig.stock.members, rig.stock.ahead_s(0.5), rig.stock.ahead_s(3.0)) == (1, pytest.approx(1.5), 0.0)


def test_what_is_to_be_had_within_the_second_is_waited_for_and_not_leased() -> None:
    rig = Rig()
    rig.stock.check(0.0)
    rig.stock.leased(0, 0.5, members=1)
    assert (rig.stock.wanted(0.0), rig.stock.wanted(0.5)) == (0, rig.stock.size)


def test_with_two_leases_nothing_more_is_asked_for_until_one_is_used_up() -> None:
    rig = Rig()
    for _ in range(HELD):
        rig.stock.leased(1, 0.0, members=1)
    nudges = rig.nudges
    assert rig.stock.again_s(0.0) == inf
    assert rig.admitted(0.0, most=1) == 1
    assert rig.nudges == nudges + 1
    assert rig.stock.again_s(0.0) == 0.0


def test_a_lease_that_becomes_good_right_after_the_share_was_used_is_what_is_used() -> None:
    rig = Rig(rate_per_s=10.0, burst=1)
    rig.stock.leased(3, 5.0, members=1)
    rig.stock.go_alone(0.0)
    assert rig.stock.check(4.9) == 0.0
    rig.stock.take()
    assert rig.admitted(5.0) == 3 + 1, "the lease, and what the share has again"
    assert rig.stock.tokens(5.0) == pytest.approx(0.0)
