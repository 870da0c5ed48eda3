"""Which value wins: lane before layer, field by field, and null is a value."""

from __future__ import annotations

import pytest

from shadowstream.config import BreakerRule, KeysRule, RateRule

RULE = "rate_limit: {a: {soft: 8/s, hard: 10/s, burst: 3}}\n"


def test_shadow_without_a_key_of_its_own_takes_the_whole_normal_rule(loaded):
    settings = loaded(RULE)
    assert settings.shadow.rates == settings.normal.rates


def test_a_null_field_wins_over_the_normal_value(loaded):
    shadow = loaded("rate_limit: {a: {soft: 8/s, hard: 10/s}, shadow.a: {soft: null, hard: 0}}").shadow
    assert shadow.rates["a"] == RateRule(soft_per_s=None, hard_per_s=0)


def test_a_null_rule_means_no_rule_for_shadow(loaded):
    settings = loaded("rate_limit: {a: {hard: 10/s}, shadow.a: null}\ndefault_rate_limit: {hard_rate_limit: 1/s}")
    assert settings.shadow.rate("a") is None
    assert settings.normal.rate("a") == RateRule(hard_per_s=10)


def test_a_null_rule_for_normal_is_one_for_shadow_too_unless_shadow_has_its_own(loaded):
    settings = loaded("resilience: {a: null, b: null, shadow.b: {window: 7}}")
    assert settings.normal.breakers == {"a": None, "b": None}
    assert settings.shadow.breakers == {"a": None, "b": BreakerRule(window=7)}


@pytest.mark.parametrize(
    "text",
    [
        "default_rate_limit: {hard_rate_limit: 9/s}\nshadow.default_rate_limit: null",
        "default_rate_limit: {hard_rate_limit: 9/s, shadow: null}",
        "default_rate_limit: {hard_rate_limit: 9/s}\nshadow_default_rate_limit: null",
    ],
)
def test_shadow_may_have_no_default_limit(loaded, text):
    settings = loaded(text)
    assert settings.shadow.default_rate is None
    assert settings.normal.default_rate == RateRule(hard_per_s=9)


def test_a_command_without_its_own_limit_has_the_default_one(loaded):
    settings = loaded(RULE + "default_rate_limit: {hard_rate_limit: 9/s, burst: 4, shadow_hard_rate_limit: 2/s}")
    assert settings.normal.rate("other") == RateRule(hard_per_s=9, burst=4)
    assert settings.shadow.rate("other") == RateRule(hard_per_s=2, burst=4)


def test_an_empty_limit_says_nothing_and_so_the_default_one_holds(loaded):
    settings = loaded("rate_limit: {a: {}}\ndefault_rate_limit: {hard_rate_limit: 9/s}")
    assert settings.normal.rate("a") == settings.shadow.rate("a") == RateRule(hard_per_s=9)


@pytest.mark.parametrize("rule", ["{}", "{shadow_window: 50}", "{shadow: {window: 50}}"])
def test_a_rule_in_which_normal_says_nothing_is_none_for_normal(loaded, rule):
    assert loaded(f"resilience: {{a: {rule}}}").normal.breakers == {}


def test_limits_and_breakers_fall_back_each_on_its_own(loaded):
    shadow = loaded(RULE + "resilience: {a: {window: 50}, shadow.a: {failure_rate: 0.1}}").shadow
    assert shadow.rates["a"] == RateRule(soft_per_s=8, hard_per_s=10, burst=3)
    assert shadow.breakers["a"] == BreakerRule(failure_rate=0.1, window=50)


@pytest.mark.parametrize("section", ["rate_limit: {a: {shadow_hard: 5/s}}", "rate_limit: {shadow.a: {hard: 5/s}}"])
def test_a_rule_that_only_shadow_has_is_none_for_normal(loaded, section):
    settings = loaded(section)
    assert dict(settings.normal.rates) == {}
    assert settings.shadow.rates == {"a": RateRule(hard_per_s=5)}


def test_a_limit_by_keys_falls_back_field_by_field_and_a_null_rate_is_no_limit(loaded):
    settings = loaded("""\
        multi_key_rate_limit_v2:
          a: {keys: [user_id], hard: 5/s, burst: 2, max_keys: 10}
          shadow.a: {hard: 50/s}
          b: {keys: [user_id], hard: 5/s, shadow_hard: null}
    """)
    assert settings.shadow.key_limits == {
        "a": KeysRule(keys=("user_id",), hard_per_s=50, burst=2, max_keys=10),
        "b": None,
    }


def test_a_task_falls_back_field_by_field_and_null_leaves_it_out(loaded):
    settings = loaded("""\
        tasks:
          expire: {every: 1m, batch: 500, note: night}
          shadow.expire: {every: 5s}
          sweep: {every: 1h}
          shadow.sweep: null
    """)
    assert settings.shadow.tasks == {"expire": {"every_s": 5.0, "batch": 500, "note": "night"}}
    assert settings.normal.tasks["sweep"] == {"every_s": 3600.0}


def test_lookup_is_lane_major_a_shadow_key_in_the_file_wins_over_a_normal_one_from_above(loaded):
    settings = loaded(
        "rate_limit: {a: {hard: 10/s}, shadow.a: {hard: 1/s}}",
        {"SHADOWSTREAM__RATE_LIMIT__A__HARD": "20/s"},
        live={"rate_limit": {"a": {"hard": "30/s"}}},
    )
    assert settings.normal.rates["a"].hard_per_s == 30
    assert settings.shadow.rates["a"].hard_per_s == 1


def test_the_layers_lie_in_order_default_file_environment_live(loaded):
    text, environ = "worker: {batch: 10, drain: 1s, shadow_batch: 11}", {"SHADOWSTREAM__WORKER__BATCH": "20"}
    live = {"worker": {"batch": 30}, "shadow.worker": {"batch": 33}}
    assert loaded("").normal.worker.batch == 1000
    assert loaded(text).normal.worker.batch == 10
    assert loaded(text, environ).normal.worker.batch == 20
    settings = loaded(text, environ, live=live)
    assert (settings.normal.worker.batch, settings.shadow.worker.batch) == (30, 33)
    assert settings.normal.worker.drain_s == 1


def test_a_field_from_a_higher_layer_revives_a_rule_that_a_lower_one_set_to_null(loaded):
    settings = loaded(
        "rate_limit: {a: {hard: 10/s, burst: 7}, shadow.a: null}",
        {"SHADOWSTREAM__RATE_LIMIT__SHADOW.A__HARD": "2/s"},
    )
    # The null below still cuts the way to normal's fields.
    assert settings.shadow.rates["a"] == RateRule(hard_per_s=2)


def test_a_null_rule_from_a_higher_layer_hides_the_fields_below(loaded):
    settings = loaded(
        "rate_limit: {a: {hard: 10/s}, shadow.a: {hard: 2/s}}", {"SHADOWSTREAM__RATE_LIMIT__SHADOW.A": "null"}
    )
    assert settings.shadow.rates["a"] is None
