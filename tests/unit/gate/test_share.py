"""What the guard leaves of one command, number by number."""

from __future__ import annotations

import pytest

from shadowstream.config.model import RateRule
from shadowstream.gate import Ticket
from shadowstream.gate.cap import Cap
from shadowstream.gate.guard import Share
from shadowstream.gate.guard.share import BURST_S, GROWS, SEEN_S, SEEN_TICKS
from tests.unit.gate.conftest import Elsewhere, Held


class Rig:
    """A share of a command with a cap of 100, and its guard."""

    def __init__(self, level: float, rate: RateRule | None = None, limit: int | None = 100) -> None:
        self.guard, self.cap = Held(level), Cap(limit)
        self.share = Share(self.guard, "claim", self.cap, rate)  # type: ignore[arg-type]
        self.share.adopt(rate, limit, None)

    def take(self, times: int, now: float) -> None:
        for _ in range(times):
            assert self.share.check(now) == 0.0
            self.share.take(Ticket())
            self.cap.in_flight += 1

    def looked(self, level: float, now: float, ticks: int = 1, **normal: float) -> tuple[float, int, int]:
        """Hold another level, and return the rate and the calls at once that are multiplied by it, and those left."""
        self.guard.hold(level, ticks, **normal)
        self.share.check(now)
        return self.share._base_per_s, self.share._base_at_once, self.share._at_once


def test_a_cut_brings_down_to_what_was_done_at_the_level_before() -> None:
    rig = Rig(0.5)
    rig.take(4, 0.0)
    assert rig.looked(0.25, 1.0) == (4 / 1.0 / 0.5, 8, 2)
    assert rig.share.check(1.0) > 0.0, "four are in, two may be"
    rig.cap.in_flight = 0
    assert rig.share.check(1.45) == pytest.approx(0.05), "a quarter of eight a second, and no burst for the change"
    assert rig.share.check(1.5) == 0.0


def test_a_cut_after_little_was_done_leaves_one_a_second() -> None:
    rig = Rig(0.5)
    rig.take(1, 0.0)
    assert rig.looked(0.25, 4.0) == (1.0, 2, 1)


@pytest.mark.parametrize(
    ("taken", "now", "ticks", "shrunk"),
    [
        (4, SEEN_S, 1, True),
        (4, SEEN_S, SEEN_TICKS, True),
        (4, SEEN_S, SEEN_TICKS + 1, False),
        (4, SEEN_S / 2, 1, False),
        (0, SEEN_S, 1, False),
    ],
)
def test_only_what_was_seen_for_long_enough_and_lately_says_what_can_be_done(
    taken: int, now: float, ticks: int, shrunk: bool
) -> None:
    rig = Rig(0.5)
    assert rig.looked(0.5, 0.0)[1] == 100
    rig.take(taken, 0.0)
    assert (rig.looked(0.25, now, ticks)[1] < 100) is shrunk


def test_a_cut_from_nothing_says_nothing() -> None:
    rig = Rig(0.0)
    assert rig.looked(-1.0, 5.0)[1] == 100


def test_what_was_done_is_counted_anew_once_it_was_looked_at() -> None:
    rig = Rig(0.5)
    rig.take(4, 0.0)
    rig.looked(0.5, SEEN_S)
    rig.cap.in_flight = 1
    assert rig.looked(0.25, 2 * SEEN_S)[1] == 100, "nothing was begun since"
    rig = Rig(0.5)
    rig.take(4, 0.0)
    rig.looked(0.5, SEEN_S)
    rig.cap.in_flight = 1
    rig.take(2, SEEN_S)
    assert rig.looked(0.25, 2 * SEEN_S)[:2] == (pytest.approx(2 / SEEN_S / 0.5), 8), "four were in when it began anew"


def test_what_holds_calls_back_grows_by_a_twentieth_up_to_the_commands_own() -> None:
    rig = Rig(1.0, RateRule(hard_per_s=1000.0))
    rig.take(40, 0.0)
    assert rig.looked(0.5, 1.0) == (40.0, 40, 20)
    for _ in range(30):
        before = rig.share._base_at_once
        rig.cap.in_flight = 200
        rig.share.check(1.0)
        assert rig.looked(1.0, 1.0)[1] == min(100, -(-before * GROWS // 1))
    assert rig.share._base_at_once == 100
    rig.cap.in_flight = 0
    per_s = rig.share._base_per_s
    for tick in range(100):
        while not rig.share.check(1.0 + tick):
            rig.share.take(Ticket())
        assert rig.share._bound == "per_s"
        per_s = min(GROWS * per_s, 1000.0)
        rig.looked(1.0, 1.0 + tick)
        assert rig.share._base_per_s == pytest.approx(per_s)
        if per_s == 1000.0:
            break
    assert per_s == 1000.0
    assert rig.share.check(200.0) == 0.0


def test_a_command_without_a_cap_grows_without_one() -> None:
    rig = Rig(1.0, limit=None)
    for expected in (2, 3, 4, 5):
        rig.cap.in_flight = 99
        rig.share.check(0.0)
        assert rig.looked(1.0, 0.0)[1] == expected


def test_a_rate_is_spread_out() -> None:
    rig = Rig(0.5, RateRule(hard_per_s=1000.0))
    rig.share.check(0.0)
    assert rig.share._bucket.burst == BURST_S * 500.0


def test_a_process_goes_by_its_part_of_a_rate_that_others_share() -> None:
    rig = Rig(0.5)
    rig.share.adopt(RateRule(hard_per_s=1000.0), 100, Elsewhere(4))
    assert rig.looked(0.5, 0.0)[0] == 250.0


def test_the_same_rule_keeps_what_was_seen_and_another_begins_anew() -> None:
    rule = RateRule(hard_per_s=1000.0)
    rig = Rig(0.5, rule)
    rig.share.check(0.0)
    for tenth in range(1, 5):
        rig.take(1, tenth / 10)
    assert rig.looked(0.25, 1.0)[:2] == (8.0, 8)
    rig.share.adopt(rule, 100, None)
    assert rig.looked(0.25, 1.0)[:2] == (8.0, 8)
    rig.share.adopt(RateRule(hard_per_s=500.0), 100, None)
    assert rig.looked(0.25, 1.0)[:2] == (500.0, 100)


def test_of_a_joint_rate_is_left_what_normal_does_not_take() -> None:
    rig = Rig(1.0, RateRule(joint_per_s=100.0))
    rig.guard.normal = {"other": 70.0}
    rig.share.check(0.0)
    assert (rig.share._joint._rate_per_s, rig.share._joint.burst) == (100.0, 2)
    rig.looked(1.0, 1.0, claim=70.0)
    assert (rig.share._joint._rate_per_s, rig.share._joint.burst) == (30.0, 1)
    rig.looked(1.0, 2.0, claim=170.0)
    assert rig.share.check(60.0) > 0.0
