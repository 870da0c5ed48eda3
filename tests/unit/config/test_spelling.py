"""Both spellings are first class, at every level."""

from __future__ import annotations

import pytest

from shadowstream.lane import Lane

SAME_TOPIC = [
    "topics: {t: {concurrency: 2, shadow: {concurrency: 4}}}",
    "topics: {t: {concurrency: 2, shadow_concurrency: 4}}",
    "topics: {t: {concurrency: 2, shadow.concurrency: 4}}",
    "topics: {t: {concurrency: 2}, shadow.t: {concurrency: 4}}",
    "topics: {t: {concurrency: 2}, shadow: {t: {concurrency: 4}}}",
    "topics: {t: {concurrency: 2}}\nshadow.topics: {t: {concurrency: 4}}",
    "topics: {t: {concurrency: 2}}\nshadow_topics: {t: {concurrency: 4}}",
    "topics: {t: {concurrency: 2}}\nshadow: {topics: {t: {concurrency: 4}}}",
]


@pytest.mark.parametrize("text", SAME_TOPIC)
def test_a_topic_reads_the_same_in_every_spelling(loaded, text):
    settings = loaded(text)
    assert (settings.normal.topics["t"].concurrency, settings.shadow.topics["t"].concurrency) == (2, 4)


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {bootstrap.servers: b, group.id: g, linger.ms: 5, shadow_linger.ms: 50}",
        "kafka: {bootstrap.servers: b, group.id: g, linger.ms: 5, shadow: {linger.ms: 50}}",
        "kafka: {bootstrap.servers: b, group.id: g, linger.ms: 5}\nshadow.kafka: {linger.ms: 50}",
        "kafka: {bootstrap.servers: b, group.id: g, linger.ms: 5}\nshadow_kafka: {linger.ms: 50}",
    ],
)
def test_a_kafka_property_reads_the_same_in_every_spelling(examined, text):
    settings = examined(f"service: s\n{text}\n", whole=True).settings
    assert (settings.normal.kafka["linger.ms"], settings.shadow.kafka["linger.ms"]) == (5, 50)


@pytest.mark.parametrize(
    "text",
    [
        "data: {r: {url: a}, shadow.r: {url: b}}",
        "data: {r: {url: a, shadow_url: b}}",
        "data: {r: {url: a, shadow: {url: b}}}",
        "data: {r: {url: a}}\nshadow.data: {r: {url: b}}",
    ],
)
def test_a_sink_reads_the_same_in_every_spelling(loaded, text):
    settings = loaded(text)
    assert (settings.normal.data["r"], settings.shadow.data["r"]) == ({"url": "a"}, {"url": "b"})


@pytest.mark.parametrize(
    "text",
    [
        "default_rate_limit: {hard_rate_limit: 9/s, shadow_hard_rate_limit: 1/s}",
        "default_rate_limit: {hard_rate_limit: 9/s, shadow.hard_rate_limit: 1/s}",
        "default_rate_limit: {hard_rate_limit: 9/s}\nshadow.default_rate_limit: {hard_rate_limit: 1/s}",
    ],
)
def test_the_default_limit_reads_the_same_in_every_spelling(loaded, text):
    assert loaded(text).shadow.default_rate.hard_per_s == 1


def test_the_same_value_in_two_spellings_is_no_problem(loaded):
    shadow = loaded("rate_limit: {a: {shadow_hard: 60/m}, shadow.a: {hard: 1/s}}", strict=True).shadow
    assert shadow.rates["a"].hard_per_s == 1


def test_different_values_in_two_spellings_are_a_problem_of_the_shadow_lane(examined):
    found = examined("rate_limit:\n  a: {shadow_hard: 5/s}\n  shadow.a: {hard: 6/s}\n")
    (problem,) = found.shadow_problems
    assert (problem.place, problem.key) == ("c.yaml:5", "rate_limit shadow.a hard")
    assert "'6/s'" in problem.message
    assert "rate_limit a shadow_hard" in problem.message
    assert "'5/s'" in problem.message
    assert found.settings.shadow is None


def test_null_in_one_spelling_and_fields_in_the_other_are_a_problem(examined):
    assert "is null, but" in examined("rate_limit: {a: {shadow_hard: 5/s}, shadow.a: null}").shadow_problems[0].message


def test_a_switch_that_says_two_things_is_a_problem(examined):
    found = examined("topics: {t: {enabled: true, shadow: false}}")
    assert [p.key for p in found.shadow_problems] == ["topics t shadow"]


def test_a_command_may_be_called_shadow_something(loaded):
    settings = loaded("rate_limit: {shadow_report: {hard: 5/s}}")
    assert settings.normal.rates["shadow_report"].hard_per_s == 5
    assert settings.shadow.rates["shadow_report"].hard_per_s == 5


def test_an_error_in_a_command_called_shadow_something_is_normals(examined):
    assert len(examined("rate_limit: {shadow_report: {hard: x}}").normal_problems) == 1


@pytest.mark.parametrize("key", ["shadow.shadow.a", "shadow."])
def test_a_prefix_without_a_name_is_a_problem_of_the_shadow_lane(examined, key):
    found = examined(f"rate_limit: {{{key}: {{hard: 5/s}}}}")
    assert [p.key for p in found.shadow_problems] == [f"rate_limit {key}"]


@pytest.mark.parametrize("text", ["shadow.service: x", "shadow.mark: {header: x}", "mark: {shadow_header: x}"])
def test_what_cannot_differ_between_the_lanes_is_a_problem_of_the_shadow_lane(examined, text):
    found = examined(text)
    assert len(found.shadow_problems) == 1
    assert found.normal_problems == ()


def test_a_prefix_that_is_nearly_right_is_warned_about(loaded):
    (warning,) = loaded("rate_limit: {Shadow.a: {hard: 1/s}}").warnings
    assert "did you mean `shadow.a`?" in warning
    (warning,) = loaded("rate_limit: {shdow.a: {hard: 1/s}}").warnings
    assert "did you mean `shadow.a`?" in warning


def test_rates_that_cannot_be_meant_are_warned_about(loaded):
    (warning,) = loaded("rate_limit: {a: {soft: 5/s, hard: 10/s, shadow_hard: 1/s}}").warnings
    assert "rate_limit a: in the shadow lane the soft rate is above the hard one" in warning
    warnings = loaded("resilience: {a: {window: 10, min_calls: 20}}").warnings
    assert [w.partition(" lane")[0][-6:] for w in warnings] == ["normal", "shadow"]


def test_both_lanes_agree_on_the_route_or_shadow_is_off(examined):
    found = examined("topics: {t: {shadow: {route: topic}}}")
    assert "Write `route: topic` without shadow" in found.shadow_problems[0].cure
    assert found.settings.topic("t", Lane.NORMAL).route == "same"
    assert examined("topics: {t: {route: topic, shadow: {route: topic}}}").problems == ()
