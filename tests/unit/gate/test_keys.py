"""The keyed limit: all or nothing, bounded, and never forgetful of a limited key."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.config.model import KeysRule, Missing
from shadowstream.events import Outcome
from shadowstream.gate import KeyedLimit, Ticket, Verdict
from shadowstream.gate.keys import KeyedGate
from shadowstream.gate.keys.limit import LONGEST_VALUE, key_of
from shadowstream.gate.rate import RE_ASK_S

if TYPE_CHECKING:
    from tests.unit.gate.conftest import Hammer, Waits


def test_each_value_has_its_own_bucket() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=5.0))
    assert [limit.enter({"user_id": user}, 0.0).admitted for user in ("a", "b", "a", "c", "b")] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_a_refusal_says_which_stage_and_for_how_long() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=4.0), Verdict.SHED)
    assert limit.enter({"user_id": 1}, 10.0).admitted
    refused = limit.enter({"user_id": 1}, 10.1)
    assert (refused.verdict, refused.by) == (Verdict.SHED, "keys")
    assert refused.wait_s == pytest.approx(0.15)
    assert limit.enter({"user_id": 1}, 10.1 + refused.wait_s).admitted


def test_one_key_refusing_takes_nothing_from_the_others_and_remembers_none() -> None:
    limit = KeyedLimit(KeysRule(("user_id", "promotion_id"), hard_per_s=1.0, burst=3))
    for user in "abc":
        assert limit.enter({"user_id": user, "promotion_id": "hot"}, 0.0).admitted
    for _ in range(50):
        assert not limit.enter({"user_id": "a", "promotion_id": "hot"}, 0.0).admitted
        assert not limit.enter({"user_id": "new", "promotion_id": "hot"}, 0.0).admitted
    assert len(limit) == 4
    assert [limit.enter({"user_id": "a", "promotion_id": p}, 0.0).admitted for p in "xyz"] == [True, True, False]


def test_the_same_value_in_another_field_is_another_key() -> None:
    limit = KeyedLimit(KeysRule(("user_id", "promotion_id"), hard_per_s=1.0))
    assert limit.enter({"user_id": "7", "promotion_id": "8"}, 0.0).admitted
    assert limit.enter({"user_id": "8", "promotion_id": "7"}, 0.0).admitted


@pytest.mark.parametrize("values", [{}, {"user_id": None}, {"other": 1}])
def test_leaving_the_field_out_evades_no_limit(values: dict[str, object]) -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=2))
    assert limit.enter({}, 0.0).admitted
    assert limit.enter(values, 0.0).admitted
    assert not limit.enter(values, 0.0).admitted
    assert limit.enter({"user_id": "None"}, 0.0).admitted


def test_a_number_and_its_text_are_one_user_and_any_value_will_do() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0))
    assert limit.enter({"user_id": 7}, 0.0).admitted
    assert not limit.enter({"user_id": "7"}, 0.0).admitted
    assert limit.enter({"user_id": UUID(int=5)}, 0.0).admitted
    assert not limit.enter({"user_id": str(UUID(int=5))}, 0.0).admitted
    assert limit.enter({"user_id": ["un", "hashable"]}, 0.0).admitted
    assert limit.enter({"user_id": "\ud800" * 100}, 0.0).admitted


def test_a_long_value_is_kept_short_and_still_told_apart() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0))
    long = "x" * 1_000_000
    assert limit.enter({"user_id": long + "a"}, 0.0).admitted
    assert limit.enter({"user_id": long + "b"}, 0.0).admitted
    assert not limit.enter({"user_id": long + "a"}, 0.0).admitted
    assert all(len(part) <= 64 for key in limit._table for part in key)


def test_rate_zero_admits_no_key() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=0.0, burst=10))
    refused = limit.enter({"user_id": 1}, 0.0)
    assert (refused.admitted, refused.wait_s, len(limit)) == (False, 1.0, 0)


def test_a_table_full_of_live_keys_refuses_a_new_one_and_counts_it() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, max_keys=3))
    for user in "abc":
        assert limit.enter({"user_id": user}, 0.0).admitted
    refused = limit.enter({"user_id": "d"}, 0.5)
    assert (refused.admitted, refused.by, refused.wait_s) == (False, "keys", 1.0)
    assert (limit.overflows, len(limit)) == (1, 3)
    assert [limit.enter({"user_id": user}, 0.5).admitted for user in "abc"] == [False] * 3


def test_only_an_idle_key_is_forgotten_wherever_it_stands_in_the_table() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=5, max_keys=3))
    for user in "aaaabccc":
        limit.enter({"user_id": user}, 0.0)
    assert limit.enter({"user_id": "d"}, 1.0).admitted
    assert {key[1] for key in limit._table} == {"a", "c", "d"}
    assert [limit.enter({"user_id": "a"}, 1.0).admitted for _ in range(3)] == [True, True, False]


def test_room_is_never_made_by_forgetting_a_key_of_the_same_decision() -> None:
    limit = KeyedLimit(KeysRule(("user_id", "promotion_id"), hard_per_s=1.0, max_keys=2))
    assert limit.enter({"user_id": "a", "promotion_id": "p"}, 0.0).admitted
    assert limit.enter({"user_id": "a", "promotion_id": "q"}, 5.0).admitted
    assert {key[1] for key in limit._table} == {"a", "q"}
    assert not limit.enter({"user_id": "a", "promotion_id": "r"}, 5.5).admitted
    assert not limit.enter({"user_id": "b", "promotion_id": "r"}, 5.5).admitted
    assert limit.enter({"user_id": "b", "promotion_id": "r"}, 6.5).admitted


def test_a_full_table_finds_its_idle_keys_in_a_few_decisions() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=2, max_keys=320))
    for user in range(320):
        for _ in range(1 if user == 319 else 2):
            limit.enter({"user_id": user}, 0.0)
    tries = [limit.enter({"user_id": "new"}, 1.0).admitted for _ in range(10)]
    assert tries == [False] * 9 + [True]


@settings(deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.floats(0, 0.7)), max_size=150),
    burst=st.integers(1, 3),
)
def test_no_key_exceeds_its_rate_in_any_window_though_the_table_overflows(
    arrivals: list[tuple[int, int, float]], burst: int
) -> None:
    limit = KeyedLimit(KeysRule(("user_id", "promotion_id"), hard_per_s=2.0, burst=burst, max_keys=5))
    now, admitted = 100.0, dict[tuple[str, int], list[float]]()
    for user, promotion, gap in arrivals:
        now += gap
        if limit.enter({"user_id": user, "promotion_id": promotion}, now).admitted:
            admitted.setdefault(("user_id", user), []).append(now)
            admitted.setdefault(("promotion_id", promotion), []).append(now)
        assert len(limit) <= 5
    for times in admitted.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                width = Fraction(times[last]) - Fraction(times[first])
                assert last - first + 1 <= 2 * width + burst + Fraction(1, 10**8)


def test_a_decision_waits_for_the_one_before_it(waits_for: Waits) -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0))
    assert waits_for(limit._lock, lambda: limit.enter({"user_id": 1}, 0.0))


def test_eight_threads_get_exactly_the_burst_of_a_key(hammer: Hammer) -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=40))

    def work(_: int) -> int:
        return sum(limit.enter({"user_id": "one"}, 1.0).admitted for _turn in range(200))

    assert sum(hammer(work)) == 40


def test_some_values_have_rates_of_their_own() -> None:
    own = {"user": {"vip": None, "7": 2.0, "banned": 0.0}}
    limit = KeyedLimit(KeysRule(("user", "promotion"), hard_per_s=1.0, burst=1, overrides=own))

    def admitted(user: object, tries: int, now: float = 0.0) -> int:
        # Another promotion each time: it is the user that is looked at.
        return sum(limit.enter({"user": user, "promotion": f"{user} {n} {now}"}, now).admitted for n in range(tries))

    assert admitted("vip", 50) == 50
    assert admitted("banned", 50) == 0
    assert (admitted(7, 5), admitted(7, 5, 0.5)) == (1, 1), "twice a second"
    assert (admitted(8, 5), admitted(8, 5, 0.5), admitted(8, 5, 1.0)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("missing", "admitted"), [(Missing.SHARED, 1), (Missing.ADMIT, 3), (Missing.REFUSE, 0)], ids=str
)
def test_what_counts_for_a_message_without_a_key_is_as_the_rule_says(missing: Missing, admitted: int) -> None:
    limit = KeyedLimit(KeysRule(("user", "promotion"), hard_per_s=1.0, burst=1, missing=missing))
    assert sum(limit.enter({"user": None, "promotion": each}, 0.0).admitted for each in "abc") == admitted
    assert limit.enter({"user": 1, "promotion": "d"}, 0.0).admitted
    assert not limit.enter({"user": 1, "promotion": "e"}, 0.0).admitted


def test_what_is_given_back_can_be_taken_again_and_is_not_more_than_was_taken() -> None:
    limit = KeyedLimit(KeysRule(("user",), hard_per_s=0.001, burst=1))
    assert limit.enter({"user": 1}, 0.0).admitted
    limit.give_back({"user": 1})
    limit.give_back({"user": 1})
    limit.give_back({"user": "never seen"})
    assert [limit.enter({"user": 1}, 0.0).admitted for _ in range(2)] == [True, False]


def test_a_limited_key_is_not_let_in_again_by_a_million_new_ones() -> None:
    limit = KeyedLimit(KeysRule(("user",), hard_per_s=0.001, burst=1, max_keys=1000))
    assert limit.enter({"user": "limited"}, 0.0).admitted
    for number in range(1_000_000):
        limit.enter({"user": number}, 0.0)
        if not number % 100_000:
            assert not limit.enter({"user": "limited"}, 0.0).admitted
    assert not limit.enter({"user": "limited"}, 1.0).admitted
    assert len(limit) == 1000
    assert limit.overflows == 1_000_000 - 999


class Inner:
    """A gate that remembers what it was told."""

    def __init__(self) -> None:
        self.left: list[tuple[object, ...]] = []

    def enter(self, now: float, work: object = None) -> Ticket:
        return Ticket(entered_at=now)

    def leave(self, *told: object) -> None:
        self.left.append(told)

    def level(self, now: float) -> object:
        return ("level", now)


def test_what_is_behind_the_keys_is_told_everything() -> None:
    inner = Inner()
    gate = KeyedGate(inner, KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0)), lambda _: {"user_id": 1}, Verdict.WAIT)
    ticket, error = gate.enter(1.0), LookupError("gone")
    gate.leave(ticket, Outcome.FAILED, 2.0, error)
    assert inner.left == [(ticket, Outcome.FAILED, 2.0, error)]
    assert gate.level(3.0) == ("level", 3.0)


def test_each_change_of_the_rule_is_followed() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=1))
    assert limit.enter({"user_id": 1}, 0.0).admitted
    for change, rate_per_s in enumerate((10.0, 100.0, 5.0), 1):
        limit.adopt(KeysRule(("user_id",), hard_per_s=rate_per_s, burst=1))
        limit.enter({"user_id": 1}, float(change))
        assert limit.enter({"user_id": 1}, float(change)).wait_s == pytest.approx(1 / rate_per_s)


def test_what_is_given_back_is_one_message() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=3))
    for _ in range(3):
        assert limit.enter({"user_id": 1}, 0.0).admitted
    limit.give_back({"user_id": 1})
    assert [limit.enter({"user_id": 1}, 0.0).admitted for _ in range(2)] == [True, False]
    limit.give_back({"user_id": "unknown"})


def test_a_limit_that_counts_no_hot_keys_has_none_to_tell() -> None:
    assert KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0)).hot() == ()


def test_a_value_is_counted_under_its_text_however_it_is_spelled() -> None:
    assert key_of("user", None) == ("user",)
    assert key_of("user", b"7") == key_of("user", 7) == ("user", "7")
    assert key_of("user", b"\xff") == ("user", "\udcff")
    longest = "x" * LONGEST_VALUE
    assert key_of("user", longest) == ("user", longest)
    name, digest, kind = key_of("user", longest + "x")
    assert (name, len(digest), kind) == ("user", 32, "digest")


def test_a_message_without_a_field_is_refused_like_any_other_where_the_rule_says_so() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, missing=Missing.REFUSE), Verdict.PARK)
    assert limit.enter({}, 7.0) == Ticket(Verdict.PARK, RE_ASK_S, by="keys", entered_at=7.0)
    assert limit.enter({"user_id": 1}, 8.0) == Ticket(entered_at=8.0)
    refused = limit.enter({"user_id": 1}, 8.5)
    assert (refused.verdict, refused.wait_s, refused.by) == (Verdict.PARK, pytest.approx(0.5), "keys")
    assert refused.entered_at == 8.5


def test_a_value_with_a_rate_of_its_own_goes_by_it_after_a_change_too() -> None:
    rule = KeysRule(("user_id",), hard_per_s=1.0, burst=4, overrides={"user_id": {"a": 10.0, "free": None}})
    limit = KeyedLimit(rule)
    for _ in range(100):
        assert limit.enter({"user_id": "free"}, 0.0).admitted
    assert sum(limit.enter({"user_id": "a"}, 0.0).admitted for _ in range(9)) == 4
    assert limit.enter({"user_id": "a"}, 0.0).wait_s == pytest.approx(0.1)
    limit.adopt(KeysRule(("user_id",), hard_per_s=1.0, burst=3, overrides={"user_id": {"a": 20.0, "free": 5.0}}))
    assert limit.enter({"user_id": "a"}, 0.0).wait_s == pytest.approx(0.05)
    assert sum(limit.enter({"user_id": "a"}, 60.0).admitted for _ in range(9)) == 3
    assert sum(limit.enter({"user_id": "free"}, 60.0).admitted for _ in range(9)) == 3
    assert sum(limit.enter({"user_id": "other"}, 60.0).admitted for _ in range(9)) == 3


def test_each_refusal_for_want_of_room_is_counted() -> None:
    limit = KeyedLimit(KeysRule(("user_id",), hard_per_s=1.0, burst=1, max_keys=2))
    assert [limit.enter({"user_id": user}, 0.0).admitted for user in "abcde"] == [True, True, False, False, False]
    assert (len(limit), limit.overflows) == (2, 3)
