"""Rounds and rests: how often a message comes again from its retry topic, and after how long."""

from __future__ import annotations

import pytest

from shadowstream.config import explain
from shadowstream.lane import Lane


def test_there_are_no_rounds_unless_somebody_asks_for_them(loaded):
    settings = loaded("topics: {t: {}}")
    for lane in Lane:
        topic = settings.topic("t", lane)
        assert (topic.rounds, topic.rest_s) == (0, 30.0)


def test_shadow_takes_normals_rounds_where_it_has_none_of_its_own(loaded):
    text = "topics: {t: {rounds: 3, rest: 5m, shadow: {rest: 2s}}, u: {rounds: 2, shadow_rounds: 0}}"
    settings = loaded(text)
    found = {
        (name, lane.value): (topic.rounds, topic.rest_s)
        for lane in Lane
        for name, topic in settings.of(lane).topics.items()
    }
    assert found == {
        ("t", "normal"): (3, 300.0),
        ("t", "shadow"): (3, 2.0),
        ("u", "normal"): (2, 30.0),
        ("u", "shadow"): (0, 30.0),
    }
    told = explain(settings, "topics", "t rest", Lane.SHADOW)
    assert (told.value, told.key_used, told.layer) == ("2s", "t shadow rest", "file")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("rounds: -1", "a whole number from 0 to 1000"),
        ("rounds: 1001", "a whole number from 0 to 1000"),
        ("rounds: 1.5", "a whole number from 0 to 1000"),
        ("rounds: null", "is null"),
        ("rest: soon", "a duration"),
        ("rest: 25h", "a rest of a day at most"),
        ("rest: -1s", "a duration"),
    ],
)
def test_a_wrong_value_is_named_with_its_cure(examined, field, message):
    (problem,) = examined(f"topics: {{t: {{{field}}}}}").normal_problems
    assert problem.key == f"topics t {field.partition(':')[0]}"
    assert message in problem.message
    assert problem.cure


@pytest.mark.parametrize("rest", ["0s", "1d", "500ms", 7])
def test_a_rest_is_from_nothing_to_a_day(loaded, rest):
    assert 0 <= loaded(f"topics: {{t: {{rest: {rest}}}}}").topic("t", Lane.NORMAL).rest_s <= 86400


@pytest.mark.parametrize("place", ["t.retry", "t.shadow.retry"])
def test_nobody_else_may_handle_what_is_in_a_retry_topic(examined, place):
    (problem,) = examined(f"topics: {{t: {{rounds: 1}}, {place}: {{}}}}").normal_problems
    assert problem.key == f"topics {place}"
    assert "keeps its messages between two rounds" in problem.message
    assert not examined(f"topics: {{t: {{}}, {place}: {{}}}}").problems


def test_a_retry_topic_that_only_one_lane_has_is_free_in_the_other(examined):
    assert not examined("topics: {t: {rounds: 1, shadow: {rounds: 0}}, t.shadow.retry: {}}").problems
