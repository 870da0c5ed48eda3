"""The example of the design, the defaults, and what each lane sees of them."""

from __future__ import annotations

import pytest

from shadowstream.config import (
    BreakerRule,
    KeysRule,
    OnLimit,
    Order,
    RateRule,
    Route,
    SigningKey,
    TopicSettings,
    Trust,
    WorkerSettings,
    load,
)
from shadowstream.errors import ConfigError, SetupError
from shadowstream.lane import Lane

DESIGN = """\
service: uservoucher
mark: {trust: signed, keys: [{id: k1, secret_env: SHADOW_KEY_1}], max_age: 6h}
kafka: {bootstrap.servers: localhost:9092, group.id: uservoucher}
topics:
  voucher.claimed: {route: same, order: key, concurrency: 16, shadow: {on_limit: wait, concurrency: 4}}
rate_limit:
  voucher.code.batch_get_code_using_cache: {soft: 800/s, hard: 1000/s, burst: 200}
  shadow.voucher.code.batch_get_code_using_cache: {soft: 80/s, hard: 100/s}
multi_key_rate_limit_v2:
  voucher.claim: {keys: [user_id, promotion_id], hard: 5/s}
  shadow.voucher.claim: {keys: [user_id], hard: 50/s}
default_rate_limit:
  soft_rate_limit: 500/s
  hard_rate_limit: 800/s
  shadow_soft_rate_limit: 50/s
  shadow_hard_rate_limit: 100/s
resilience:
  voucher.dispatch: {failure_rate: 0.5, window: 100, min_calls: 20, slow_call: 500ms, open_for: 30s, half_open: 3}
  shadow.voucher.dispatch: {failure_rate: 0.3, open_for: 5s}
tasks:
  voucher.expire: {every: 60s, batch: 500}
  shadow.voucher.expire: {every: 5s, batch: 50}
data:
  redis: {url: redis://localhost:6379/0}
  shadow.redis: {url: redis://localhost:6379/0, prefix: "shadow:"}     # a sink: no fallback
"""


@pytest.fixture
def design(written):
    return load(written(DESIGN, whole=True), environ={"SHADOW_KEY_1": "s3cret"}, strict=True)


def test_the_example_of_the_design_loads_as_it_stands(design):
    assert design.service == "uservoucher"
    assert (design.shadow_problems, design.warnings) == ((), ())
    assert design.mark.keys == (SigningKey("k1", b"s3cret"),)
    assert (design.mark.trust, design.mark.max_age_s) == (Trust.SIGNED, 6 * 3600)


def test_the_normal_lane_of_the_example_sees_only_normal_values(design):
    lane = design.normal
    command = "voucher.code.batch_get_code_using_cache"
    assert lane.rates == {command: RateRule(soft_per_s=800, hard_per_s=1000, burst=200)}
    assert lane.default_rate == RateRule(soft_per_s=500, hard_per_s=800)
    assert lane.breakers == {"voucher.dispatch": BreakerRule(slow_call_s=0.5)}
    assert lane.key_limits == {"voucher.claim": KeysRule(keys=("user_id", "promotion_id"), hard_per_s=5)}
    assert lane.tasks == {"voucher.expire": {"every_s": 60.0, "batch": 500}}
    assert lane.data == {"redis": {"url": "redis://localhost:6379/0"}}
    assert lane.topics["voucher.claimed"] == TopicSettings(
        name="voucher.claimed", source="voucher.claimed", order=Order.KEY, concurrency=16
    )
    assert lane.worker == WorkerSettings()


def test_the_shadow_lane_of_the_example_sees_shadow_values_and_falls_back_field_by_field(design):
    lane = design.shadow
    command = "voucher.code.batch_get_code_using_cache"
    assert lane.rates == {command: RateRule(soft_per_s=80, hard_per_s=100, burst=200)}
    assert lane.default_rate == RateRule(soft_per_s=50, hard_per_s=100)
    assert lane.breakers == {"voucher.dispatch": BreakerRule(failure_rate=0.3, open_for_s=5, slow_call_s=0.5)}
    assert lane.key_limits == {"voucher.claim": KeysRule(keys=("user_id",), hard_per_s=50)}
    assert lane.tasks == {"voucher.expire": {"every_s": 5.0, "batch": 50}}
    assert lane.data == {"redis": {"url": "redis://localhost:6379/0", "prefix": "shadow:"}}
    assert lane.topics["voucher.claimed"].concurrency == 4
    assert lane.worker == WorkerSettings(nice=10)


def test_a_service_and_a_cluster_are_enough(loaded):
    settings = loaded("")
    assert settings.normal.topics == {}
    assert settings.normal.default_rate is None
    assert settings.shadow is not None


@pytest.mark.parametrize("topic", ["voucher.claimed: {}", "voucher.claimed:", "voucher.claimed: null"])
def test_a_topic_without_a_field_has_the_defaults(loaded, topic):
    settings = loaded(f"topics:\n  {topic}\n")
    default = TopicSettings(name="voucher.claimed", source="voucher.claimed")
    assert settings.topic("voucher.claimed", Lane.NORMAL) == default
    assert settings.topic("voucher.claimed", Lane.SHADOW) == default


def test_every_field_of_a_topic_is_read(loaded):
    settings = loaded("""\
        topics:
          t: {route: topic, order: none, concurrency: 2, on_limit: park, retries: 0, backoff: 50ms,
              max_messages: 10, max_bytes: 1.5MiB}
    """)
    expected = {
        "name": "t",
        "route": Route.TOPIC,
        "order": Order.NONE,
        "concurrency": 2,
        "retries": 0,
        "backoff_s": 0.05,
        "max_messages": 10,
        "max_bytes": 1_572_864,
    }
    assert settings.normal.topics["t"] == TopicSettings(source="t", **expected)
    assert settings.shadow.topics["t"] == TopicSettings(source="shadow.t", on_limit=OnLimit.PARK, **expected)


def test_the_normal_lane_always_waits_whatever_on_limit_says(loaded):
    settings = loaded("topics: {t: {on_limit: shed}}")
    assert settings.normal.topics["t"].on_limit is OnLimit.WAIT
    assert settings.shadow.topics["t"].on_limit is OnLimit.SHED


@pytest.mark.parametrize(
    "switch",
    [
        "t: {enabled: false}",
        "t: {shadow: false}",
        "t: {shadow: off}",
        "t: {shadow: null}",
        "t: {shadow_enabled: false}",
        "t: {shadow: {enabled: false}}",
        "t: {}\n  shadow.t: false",
    ],
)
def test_a_topic_leaves_shadow_traffic_by_any_spelling_and_both_lanes_know(loaded, switch):
    settings = loaded(f"topics:\n  {switch}\n")
    assert not settings.topic("t", Lane.SHADOW).enabled
    assert not settings.topic("t", Lane.NORMAL).enabled


def test_every_field_of_the_worker_is_read_for_each_lane(loaded):
    settings = loaded("""\
        worker: {nice: 1, drain: 5s, revoke: 2s, commit_every: 100ms, batch: 10, metrics_port: 9100, shadow_batch: 20}
    """)
    expected = {"drain_s": 5.0, "revoke_s": 2.0, "commit_every_s": 0.1}
    assert settings.normal.worker == WorkerSettings(nice=1, batch=10, metrics_port=9100, **expected)
    assert settings.shadow.worker == WorkerSettings(nice=1, batch=20, metrics_port=9101, **expected)


def test_shadow_may_have_no_metrics_port_at_all(loaded):
    settings = loaded("worker: {metrics_port: 9100, shadow_metrics_port: null}")
    assert settings.shadow.worker.metrics_port is None


def test_every_field_of_the_mark_is_read(loaded):
    settings = loaded("mark: {header: x-test, trust: open, max_age: 1d, skew: 1m}")
    mark = settings.mark
    assert (mark.header, mark.trust, mark.max_age_s, mark.skew_s) == ("x-test", Trust.OPEN, 86400, 60)


def test_open_marks_are_warned_about_only_where_a_topic_takes_part(loaded):
    assert "not signed" in loaded("topics: {t: {}}").warnings[0]
    assert loaded("topics: {t: {shadow: false}}").warnings == ()
    assert loaded("").warnings == ()


def test_several_signing_keys_keep_their_order(loaded):
    text = "mark: {keys: [{id: b, secret_env: B}, {id: a, secret_env: A}]}"
    mark = loaded(text, {"A": "1", "B": "2"}).mark
    assert mark.keys == (SigningKey("b", b"2"), SigningKey("a", b"1"))
    assert mark.trust is Trust.SIGNED


def test_settings_cannot_be_changed(loaded):
    settings = loaded("topics: {t: {}}\ndata: {r: {hosts: [a, b]}, shadow.r: {hosts: [c]}}")
    with pytest.raises(TypeError):
        settings.normal.topics["u"] = None
    with pytest.raises(TypeError):
        settings.normal.kafka["group.id"] = "x"
    assert settings.normal.data["r"]["hosts"] == ("a", "b")


def test_a_topic_that_is_not_configured_is_named_with_those_that_are(loaded):
    with pytest.raises(SetupError, match="configured: t"):
        loaded("topics: {t: {}}").topic("u", Lane.NORMAL)


def test_asking_for_a_shadow_lane_that_is_off_says_why(loaded):
    settings = loaded("shadow.worker: {nice: hot}")
    with pytest.raises(ConfigError, match=r"shadow\.worker nice"):
        settings.of(Lane.SHADOW)


@pytest.mark.parametrize(
    ("written_as", "per_s"),
    [("800/s", 800), ("60/m", 1), ("36/h", 0.01), (5, 5), (0.5, 0.5), ("'7'", 7), (0, 0), ("2.5 / s", 2.5)],
)
def test_a_rate_may_be_written_in_any_of_these_ways(loaded, written_as, per_s):
    assert loaded(f"rate_limit: {{a: {{hard: {written_as}}}}}").normal.rates["a"].hard_per_s == pytest.approx(per_s)


@pytest.mark.parametrize(
    ("written_as", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("6h", 21600), ("1d", 86400), (3, 3), (0.5, 0.5)],
)
def test_a_duration_may_be_written_in_any_of_these_ways(loaded, written_as, seconds):
    assert loaded(f"worker: {{drain: {written_as}}}").normal.worker.drain_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written_as", "count"), [("32MiB", 33554432), ("900KB", 900_000), ("1GiB", 2**30), (77, 77), ("12 kb", 12_000)]
)
def test_a_size_may_be_written_in_any_of_these_ways(loaded, written_as, count):
    assert loaded(f"topics: {{t: {{max_bytes: {written_as}}}}}").normal.topics["t"].max_bytes == count


def test_a_limit_by_keys_has_rates_for_some_values_and_a_word_for_a_missing_one(loaded):
    text = """
      multi_key_rate_limit_v2:
        claim: {keys: [user_id], hard: 5/s, missing: refuse, overrides: {user_id: {7: 50/s, vip: null}}}
        shadow.claim: {overrides: {user_id: {7: 1/m}}}
    """
    settings = loaded(text)
    rule = settings.normal.key_limits["claim"]
    assert (rule.missing, rule.overrides) == ("refuse", {"user_id": {"7": 50.0, "vip": None}})
    assert settings.shadow.key_limits["claim"].overrides == {"user_id": {"7": 1 / 60}}


def test_a_breaker_s_rule_may_say_more_and_shadow_falls_back_field_by_field(loaded):
    text = """
      resilience:
        claim: {window_for: 10s, open_for: 5s, open_growth: 2, open_for_max: 1m, open_jitter: 0.2,
                half_open_timeout: 30s, ignore: [app.errors.NotFound], count: []}
        shadow.claim: {open_growth: 1, half_open_timeout: null}
    """
    settings = loaded(text)
    rule = settings.normal.breaker("claim")
    assert (rule.window_s, rule.open_growth, rule.open_for_max_s, rule.open_jitter) == (10.0, 2.0, 60.0, 0.2)
    assert (rule.half_open_timeout_s, rule.ignore, rule.count) == (30.0, ("app.errors.NotFound",), ())
    shadow = settings.shadow.breaker("claim")
    assert (shadow.open_growth, shadow.half_open_timeout_s, shadow.window_s) == (1.0, None, 10.0)


@pytest.mark.parametrize("field", ["open_growth: 0.5", "open_jitter: 1.5", "half_open_timeout: 0s", "ignore: [a, a]"])
def test_a_breaker_s_rule_that_cannot_be_is_a_problem_with_its_cure(loaded, field):
    with pytest.raises(ConfigError) as refused:
        loaded(f"resilience: {{claim: {{{field}}}}}")
    (problem,) = refused.value.problems
    assert field.split(":")[0] in problem.key
    assert problem.cure
