"""Every value can say which key and layer gave it, and why."""

from __future__ import annotations

import pytest

from shadowstream.config import FieldExplanation, Settings, explain
from shadowstream.config.fields import SECTIONS
from shadowstream.errors import SetupError
from shadowstream.lane import Lane

TEXT = """\
mark: {header: x-test}
topics: {t: {concurrency: 16, shadow: {on_limit: park}}, u: {shadow: false}}
rate_limit:
  a: {soft: 8/s, hard: 10/s, burst: 3}
  shadow.a: {hard: 1/s}
  b: {hard: 5/s}
  shadow.c: null
default_rate_limit: {soft_rate_limit: 500/s, shadow_soft_rate_limit: 50/s, burst: 9}
resilience: {a: {window: 50}}
tasks: {t: {every: 60s}, shadow.t: {every: 5s}}
data: {r: {url: a}, shadow.r: {url: b}}
worker: {metrics_port: 9100}
"""


@pytest.fixture
def settings(loaded):
    environ = {"SHADOWSTREAM__RATE_LIMIT__B__HARD": "7/s"}
    return loaded(TEXT, environ, live={"resilience": {"shadow.a": {"window": 5}}}, strict=True)


def told(settings, section, key, lane=Lane.SHADOW):
    found = explain(settings, section, key, lane)
    return found.value, found.key_used, found.layer


def test_a_field_names_the_key_as_it_was_spelled(settings):
    key = ("default_rate_limit", "soft_rate_limit")
    assert told(settings, *key, Lane.NORMAL) == ("500/s", "soft_rate_limit", "file")
    assert told(settings, *key) == ("50/s", "shadow_soft_rate_limit", "file")
    assert explain(settings, *key, Lane.SHADOW).reason == (
        "the shadow lane reads `shadow_soft_rate_limit`, set in the file (c.yaml:10)"
    )


def test_a_field_that_falls_back_says_so(settings):
    found = explain(settings, "default_rate_limit", "burst", Lane.SHADOW)
    assert (found.value, found.key_used, found.fields) == (9, "burst", {})
    assert "no layer sets a shadow key, so the shadow lane falls back to `burst`" in found.reason


def test_a_rule_is_the_mapping_of_its_fields_each_with_its_own_key(settings):
    found = explain(settings, "rate_limit", "a", Lane.SHADOW)
    assert (found.value, found.key_used) == ({"soft": "8/s", "hard": "1/s", "burst": 3}, "shadow.a")
    assert found.fields["hard"] == FieldExplanation("1/s", "shadow.a hard", "file")
    assert found.fields["soft"] == FieldExplanation("8/s", "a soft", "file")
    assert found.fields["on_soft"] == FieldExplanation("admit", None, "default")
    assert "falls back field by field" in found.reason


def test_a_rule_names_the_highest_layer_that_gave_anything(settings):
    assert told(settings, "rate_limit", "b", Lane.NORMAL) == ({"hard": "7/s"}, "b", "environment")
    assert (
        "the environment (SHADOWSTREAM__RATE_LIMIT__B__HARD)"
        in explain(settings, "rate_limit", "b", Lane.SHADOW).reason
    )
    assert told(settings, "resilience", "a") == ({"window": 5}, "shadow.a", "live")


def test_a_null_rule_says_that_there_is_none(settings):
    found = explain(settings, "rate_limit", "c", Lane.SHADOW)
    assert (found.value, found.key_used) == (None, "shadow.c")
    assert "is null in the file (c.yaml:9), so the shadow lane has no such rule" in found.reason


def test_a_command_without_its_own_limit_explains_the_default_one(settings):
    assert told(settings, "rate_limit", "c", Lane.NORMAL) == (
        {"soft_rate_limit": "500/s", "burst": 9},
        "default_rate_limit",
        "file",
    )
    found = explain(settings, "rate_limit", "zzz", Lane.SHADOW)
    assert found.value == {"soft_rate_limit": "50/s", "burst": 9}
    assert "no key in rate_limit speaks of 'zzz', so the shadow lane takes default_rate_limit" in found.reason


def test_without_a_default_limit_there_is_no_limit_and_it_says_so(loaded):
    found = explain(loaded(""), "rate_limit", "a", Lane.NORMAL)
    assert (found.value, found.key_used, found.layer) == (None, None, "default")
    assert "no limit" in found.reason


@pytest.mark.parametrize(
    ("section", "key", "lane", "expected"),
    [
        ("service", "service", Lane.NORMAL, ("uservoucher", "service", "file")),
        ("mark", "header", Lane.NORMAL, ("x-test", "header", "file")),
        ("mark", "trust", Lane.NORMAL, ("open", None, "default")),
        ("kafka", "group.id", Lane.NORMAL, ("uservoucher", "group.id", "file")),
        ("kafka", "group.id", Lane.SHADOW, ("uservoucher.shadow", "group.id", "file")),
        ("kafka", "client.id", Lane.SHADOW, ("uservoucher.shadow", "service", "file")),
        ("kafka", "linger.ms", Lane.SHADOW, (None, None, "default")),
        ("topics", "t concurrency", Lane.SHADOW, (16, "t concurrency", "file")),
        ("topics", "t on_limit", Lane.SHADOW, ("park", "t shadow on_limit", "file")),
        ("topics", "t on_limit", Lane.NORMAL, ("wait", None, "default")),
        ("topics", "u enabled", Lane.SHADOW, (False, "u shadow", "file")),
        ("topics", "nope", Lane.SHADOW, (None, None, "default")),
        ("rate_limit", "a hard", Lane.SHADOW, ("1/s", "shadow.a hard", "file")),
        ("tasks", "t", Lane.SHADOW, ({"every": "5s"}, "shadow.t", "file")),
        ("data", "r", Lane.SHADOW, ({"url": "b"}, "shadow.r", "file")),
        ("data", "nope", Lane.SHADOW, (None, None, "default")),
        ("worker", "nice", Lane.SHADOW, (10, None, "default")),
        ("worker", "nice", Lane.NORMAL, (0, None, "default")),
        ("worker", "metrics_port", Lane.SHADOW, (9101, "metrics_port", "file")),
        ("multi_key_rate_limit_v2", "nope", Lane.NORMAL, (None, None, "default")),
    ],
)
def test_every_section_explains_itself(settings, section, key, lane, expected):
    assert told(settings, section, key, lane) == expected
    assert explain(settings, section, key, lane).reason


def test_a_key_asked_for_with_the_prefix_is_answered_for_shadow(settings):
    for section, key in (
        ("rate_limit", "shadow.a"),
        ("shadow.rate_limit", "a"),
        ("default_rate_limit", "shadow_soft_rate_limit"),
    ):
        assert explain(settings, section, key, Lane.NORMAL).lane is Lane.SHADOW


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("rate_limits", "a", "Did you mean `rate_limit`"),
        ("worker", "nicer", "Did you mean `nice`"),
        ("rate_limit", "a hrad", "Did you mean `hard`"),
    ],
)
def test_what_does_not_exist_cannot_be_explained(settings, section, key, message):
    with pytest.raises(SetupError, match=message):
        explain(settings, section, key, Lane.NORMAL)


def test_settings_built_by_hand_cannot_be_explained(settings):
    by_hand = Settings(settings.service, settings.mark, settings.normal, settings.shadow)
    with pytest.raises(SetupError, match="built by hand"):
        explain(by_hand, "worker", "nice", Lane.NORMAL)


def test_an_explanation_says_when_the_shadow_lane_is_off(loaded):
    settings = loaded("shadow.worker: {batch: x}")
    assert "the shadow lane is off" in explain(settings, "worker", "nice", Lane.SHADOW).reason
    assert "is off" not in explain(settings, "worker", "nice", Lane.NORMAL).reason


def test_every_listed_field_can_be_explained_for_both_lanes(settings):
    for section, about in SECTIONS.items():
        for field in about.fields:
            for lane in Lane:
                assert explain(settings, section, f"t {field}" if about.named else field, lane).reason
