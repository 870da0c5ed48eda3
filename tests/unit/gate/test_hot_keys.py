"""Which values of a limit's keys are asked for most: told each second, in a bounded table."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from shadowstream.config.model import KeysRule
from shadowstream.events import HotKeys as Told
from shadowstream.gate import KeyedLimit
from shadowstream.gate.keys.hot import COUNTERS, HotKeys
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from tests.unit.gate.conftest import MakeGates


@pytest.mark.parametrize("seed", range(5))
def test_whoever_is_asked_for_often_is_found_among_a_flood_of_others(seed: int) -> None:
    chance, hot, counted = Random(seed), HotKeys(5), Counter[str]()
    for _ in range(20_000):
        key = f"hot-{chance.randrange(5)}" if chance.random() < 0.3 else f"cold-{chance.randrange(10**6)}"
        counted[key] += 1
        hot.count([("user", key)])
    found = hot.taken()
    assert {key for (_, key), _ in found} == {f"hot-{number}" for number in range(5)}
    lowest = 20_000 / (5 * COUNTERS)
    assert all(counted[key] <= count <= counted[key] + lowest for (_, key), count in found)
    assert hot.taken() == [], "it begins anew each time"


def test_values_near_or_above_their_rate_are_told_and_quiet_ones_are_not() -> None:
    limit = KeyedLimit(KeysRule(("user",), hard_per_s=1.0, burst=10, hot_keys=2))
    for user, times in {"a": 30, "b": 9, "c": 7, "quiet": 4}.items():
        for _ in range(times):
            limit.enter({"user": user}, 0.0)
    # The first half of the burst is nobody's business: 30, 9 and 7 without 5 each.
    assert limit.hot() == (("user", "a", 25), ("user", "b", 4))
    assert limit.hot() == ()


def test_absent_and_long_values_are_told_apart_and_none_in_full() -> None:
    limit = KeyedLimit(KeysRule(("user",), hard_per_s=1.0, burst=1, hot_keys=3))
    for value in (None, "", "x" * 1000):
        for _ in range(2):
            limit.enter({"user": value}, 0.0)
    told = [value for _, value, _ in limit.hot()]
    assert told[:2] == ["", ""]
    assert told[2].startswith("digest:")
    assert len(told[2]) < 50


def test_nothing_is_counted_unless_it_is_asked_for(gates: MakeGates) -> None:
    rules = {"off": KeysRule(("user",), hard_per_s=1.0), "on": KeysRule(("user",), hard_per_s=1.0, hot_keys=1)}
    made = gates(key_limits=rules)
    for command in rules:
        limit = made.keyed(command)
        assert limit is not None
        for _ in range(3):
            limit.enter({"user": 7}, 0.0)
    (told,) = made.levels(1.0)
    assert isinstance(told, Told)
    assert (told.command, told.keys) == ("on", (("user", "7", 3),))


def test_a_new_key_takes_over_the_lowest_counter_once_all_are_taken() -> None:
    hot = HotKeys(1)
    for number in range(COUNTERS):
        hot.count([("user", str(number))] * (number + 1))
    hot.count([("user", "new")] * (COUNTERS + 1))
    assert hot.taken() == [(("user", "new"), COUNTERS + 2)], "the lowest had 1"
    hot.count([("user", "a"), ("user", "b")])
    assert hot.taken() == [(("user", "a"), 1)]


def test_what_is_told_names_its_lane_and_its_command(gates: MakeGates) -> None:
    made = gates(key_limits={"claim": KeysRule(("user",), hard_per_s=1.0, burst=1, hot_keys=1)})
    limit = made.keyed("claim")
    assert limit is not None
    for _ in range(2):
        limit.enter({"user": "a"}, 0.0)
    assert made.levels(0.0) == [Told(Lane.SHADOW, "claim", (("user", "a", 2),))]
