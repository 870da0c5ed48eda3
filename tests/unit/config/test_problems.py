"""Everything that is wrong, at once: the place, the key as spelled, the value, the cure; and whose part it is in."""

from __future__ import annotations

import pytest

from shadowstream.config import examine, load
from shadowstream.errors import ConfigError
from shadowstream.lane import Lane

MANY = """\
servce: uservoucher
kafka:
  bootstrap.server: localhost:9092
  group.id: uservoucher
  enable.auto.commit: true
topics:
  voucher.claimed: {order: keys, concurency: 4}
rate_limit:
  a: {hard: 800/sec, burst: 1.5}
  a: {hard: 1/s}
  shadow.a: {hard: fast}
worker: [1]
data: {redis: {url: redis://x}}
"""


def test_all_problems_are_reported_at_once_with_place_key_value_and_cure(written):
    with pytest.raises(ConfigError) as raised:
        load(written(MANY, whole=True), environ={"SHADOWSTREAM__WORKERS__NICE": "1"})
    found = [(p.place, p.key) for p in raised.value.problems]
    assert sorted(found) == sorted(
        [
            ("c.yaml:1", "servce"),
            ("c.yaml:1", "service"),
            ("c.yaml:2", "kafka bootstrap.servers"),
            ("c.yaml:5", "kafka enable.auto.commit"),
            ("c.yaml:7", "topics voucher.claimed order"),
            ("c.yaml:7", "topics voucher.claimed concurency"),
            ("c.yaml:10", "rate_limit a"),
            ("c.yaml:11", "rate_limit shadow.a hard"),
            ("c.yaml:12", "worker"),
            ("c.yaml:13", "data redis"),
            ("SHADOWSTREAM__WORKERS__NICE", "workers"),
        ]
    )
    text = str(raised.value)
    for part in (
        "Did you mean `service`?",
        "Did you mean it by `bootstrap.server`?",
        "Did you mean `key`?",
        "Did you mean `concurrency`?",
        "is written twice",
        "is 'fast', which is not a rate",
        "sinks never fall back",
        "is a list and not a mapping",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "not a mapping"),
        ("service\n", "not a mapping"),
        ("service: [a\nkafka: {}\n", "not valid YAML"),
        ("service: a\n\tkafka: {}\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("service: \x00\n", "not valid YAML"),
        ("service: !!python/object:os.system x\n", "tag that means nothing"),
        ("kafka: &a {x: *a}\n", "contains itself"),
        ("? [a, b]\n: 1\n", "a key that is not one word"),
        ("service: " + "[" * 400 + "]" * 400, "nested more than"),
        ("service: " + "[" * 60 + "]" * 60, "nested more than"),
        ("service: s\nkafka: {<<: 1}\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_problem(examined, text, message):
    found = examined(text, whole=True)
    (problem,) = found.normal_problems
    assert message in problem.message
    assert problem.place.startswith("c.yaml:")
    assert problem.cure
    assert found.settings is None


def test_bad_yaml_is_placed_at_its_line(examined):
    assert examined("service: a\nkafka: {b: c\ntopics: {}\n", whole=True).normal_problems[0].place == "c.yaml:3"


def test_aliases_of_aliases_without_end_are_refused(examined):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (problem,) = examined("\n".join(lines), whole=True).normal_problems
    assert "holds more than" in problem.message


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml:1: .*does not exist") as raised:
        load(tmp_path / "none.yaml", environ={})
    assert "--config" in raised.value.problems[0].cure


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, environ={})


def test_a_file_that_is_not_utf_8_says_so(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"service: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path, environ={})


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfservice: s\nkafka: {bootstrap.servers: b, group.id: g}\n")
    assert load(path, environ={}).service == "s"


def test_anchors_and_merges_are_read_as_yaml_reads_them(loaded):
    settings = loaded("""\
        rate_limit:
          a: &a {soft: 1/s, hard: 2/s}
          b: {<<: *a, hard: 3/s}
          c: *a
          d: &d {<<: *a, hard: 4/s}
          e: *d
    """)
    assert [settings.normal.rates[name].hard_per_s for name in "abcde"] == [2, 3, 2, 4, 4]
    assert {settings.normal.rates[name].soft_per_s for name in "abcde"} == {1}


@pytest.mark.parametrize("text", ["0123", "1:30", "2024-01-01", "0x1f", "1e3", ".inf", "9" * 400])
def test_a_scalar_that_yaml_would_twist_stays_text(loaded, text):
    assert loaded(f"tasks: {{t: {{x: {text}}}}}").normal.tasks["t"]["x"] == text


@pytest.mark.parametrize(
    ("text", "key", "message", "cure"),
    [
        ("rate_limit: {a: {hard: 5/d}}", "rate_limit a hard", "is '5/d', which is not a rate", "800/s"),
        ("rate_limit: {a: {hard: -5}}", "rate_limit a hard", "is -5, which is not a rate", "0 admits nothing"),
        ("rate_limit: {a: {hard: true}}", "rate_limit a hard", "is true, which", "800/s"),
        ("rate_limit: {a: {hard: [1]}}", "rate_limit a hard", "is a list, which", "800/s"),
        ("rate_limit: {a: {hard: \uff15/s}}", "rate_limit a hard", "which is not a rate", "800/s"),
        ("rate_limit: {a: {burst: 0}}", "rate_limit a burst", "is 0, which", "1 or more"),
        ("rate_limit: {a: {burst: '5'}}", "rate_limit a burst", "is '5', which", "1 or more"),
        ("rate_limit: {a: {on_soft: [x]}}", "rate_limit a on_soft", "is a list, which", "admit, wait"),
        ("rate_limit: {a: {on_soft: null}}", "rate_limit a on_soft", "is null", "leave the key out"),
        ("rate_limit: {a: 5/s}", "rate_limit a", "is text and not a mapping", "keys and values"),
        ("rate_limit: 5", "rate_limit", "is 5 and not a mapping", "keys and values"),
        ("resilience: {a: {failure_rate: 1.5}}", "resilience a failure_rate", "is 1.5, which", "0.5"),
        ("resilience: {a: {failure_rate: 0}}", "resilience a failure_rate", "is 0, which", "0.5"),
        ("resilience: {a: {open_for: 5 sec}}", "resilience a open_for", "is '5 sec', which", "500ms"),
        ("resilience: {a: {open_for: 0}}", "resilience a open_for", "is 0, which is not longer", "30s"),
        ("resilience: {a: {half_open: null}}", "resilience a half_open", "is null", "leave the key out"),
        ("resilience: {a: {min_call: 5}}", "resilience a min_call", "is not a field", "`min_calls`"),
        ("worker: {nice: 20}", "worker nice", "is 20, which", "-20"),
        ("worker: {metrics_port: 70000}", "worker metrics_port", "is 70000", "whole number"),
        ("topics: {t: {max_bytes: 5 TB}}", "topics t max_bytes", "is '5 TB', which is not a size", "32MiB"),
        ("topics: {t: {max_bytes: 0}}", "topics t max_bytes", "is 0", "at least 1"),
        ("topics: {t: {route: sane}}", "topics t route", "is 'sane', which", "`same`"),
        ("topics: {t: {enabled: 1}}", "topics t enabled", "is 1, which is not true or false", "true or false"),
        ("topics: {t: {order: null}}", "topics t order", "is null", "leave the key out"),
        ("topics: {t: false}", "topics t", "is false and not a mapping", "`enabled: false`"),
        ("topics: {'a/b': {}}", "topics a/b", "not the name of a topic", "as Kafka does"),
        ("topics: {..: {}}", "topics ..", "not the name of a topic", "as Kafka does"),
        ("topics: [t]", "topics", "is a list and not a mapping", "keys and values"),
        ("tasks: {t: {every_s: 5}}", "tasks t every_s", "not for the configuration to set", "`every: 60s`"),
        ("tasks: {t: {x: [1]}}", "tasks t x", "is a list", "Write text"),
        ("mark: {header: 'x shadow'}", "mark header", "is 'x shadow', which", "1 to 64"),
        ("mark: {header: " + "x" * 65 + "}", "mark header", "is 'xxx", "1 to 64"),
        ("mark: {trust: sign}", "mark trust", "is 'sign', which", "`signed`"),
        ("mark: {trust: signed}", "mark trust", "no keys to sign with", "secret_env"),
        ("mark: {keys: k1}", "mark keys", "is not a list of keys", "secret_env"),
        ("mark: {keys: [k1]}", "mark keys 1", "is not a mapping", "secret_env"),
        ("mark: {keys: [{secret_env: A}]}", "mark keys 1 id", "is missing", "{id: k1"),
        ("mark: {keys: [{id: 'a;b', secret_env: A}]}", "mark keys 1 id", "is 'a;b', not 1 to 32", "{id: k1"),
        ("mark: {keys: [{id: a}]}", "mark keys 1 secret_env", "does not name", "secret_env"),
        ("mark: {keys: [{id: a, secret: x, secret_env: A}]}", "mark keys 1 secret", "is not a field", "secret_env"),
        ("mark: {keys: [{id: a, secret_env: A, id: a}]}", "mark keys id", "is written twice", "Keep one"),
        ("multi_key_rate_limit_v2: {a: {hard: 1/s}}", "multi_key_rate_limit_v2 a", "has no `keys`", "[user_id]"),
        ("multi_key_rate_limit_v2: {a: {keys: [x]}}", "multi_key_rate_limit_v2 a", "has no `hard`", "5/s"),
        (
            "multi_key_rate_limit_v2: {a: {keys: [], hard: 1}}",
            "multi_key_rate_limit_v2 a keys",
            "is a list",
            "[user_id",
        ),
        ("multi_key_rate_limit_v2: {a: {keys: [x, x], hard: 1}}", "multi_key_rate_limit_v2 a keys", "twice", "once"),
        ("data: {r: redis, shadow.r: {url: x}}", "data r", "is text and not a mapping", "keys and values"),
        ("default_rate_limit: {soft: 5}", "default_rate_limit soft", "is not a field", "`soft_rate_limit`"),
        ("default_rate: {}", "default_rate", "is not a section", "`default_rate_limit`"),
        ("xyzzy: 1", "xyzzy", "is not a section", "Use one of: service, mark"),
    ],
)
def test_a_wrong_key_of_normal_refuses_the_start_and_names_value_and_cure(examined, text, key, message, cure):
    found = examined(text)
    (problem,) = found.normal_problems
    assert problem.key == key
    assert message in problem.message
    assert cure in problem.cure
    assert problem.place == "c.yaml:3"
    assert found.settings is None


@pytest.mark.parametrize(
    "text",
    [
        "rate_limit: {shadow.a: {hard: 5/x}}",
        "rate_limit: {a: {hard: 5/s, shadow_hard: 5/x}}",
        "rate_limit: {a: {hard: 5/s, shadow_hrad: 5/s}}",
        "rate_limit: {shadow.a: 5}",
        "rate_limit: {shadow.a: {hard: 1}, shadow.a: {hard: 1}}",
        "rate_limit: {a: {shadow_hard: 1, shadow_hard: 1}}",
        "default_rate_limit: {shadow_hard_rate_limit: 1, shadow_hard_rate_limit: 1}",
        "shadow.rate_limit: {a: {hard: 1, hard: 1}}",
        "shadow.rate_limit: null",
        "shadow.rate_limits: {}",
        "shadow.kafka: null",
        "shadow.kafka: {enable.auto.commit: true}",
        "shadow.kafka: {bootstrap.servers: null}",
        "shadow.kafka: {group.id: null}",
        "shadow.kafka: {group.id: uservoucher}",
        "shadow.worker: [1]",
        "shadow: 5",
        "topics: {t: {shadow: 3}}",
        "topics: {t: {shadow: {concurrency: 0}}}",
        "topics: {t: {shadow_enabled: 3}}",
        "topics: {t: {}, shadow.u: {}}",
        "topics: {t: {}, shadow.u: false}",
        "multi_key_rate_limit_v2: {shadow.a: {hard: 1/s}}",
        "multi_key_rate_limit_v2: {a: {keys: [x], hard: 1, shadow_keys: 5}}",
        "worker: {metrics_port: 9100, shadow_metrics_port: 9100}",
        "worker: {metrics_port: 65535}",
        "data: {r: {url: x}}",
        "data: {r: {url: x}, shadow.r: null}",
        "data: {r: {url: x}, shadow.r: {}}",
        "data: {r: {url: x}, shadow.r: {prefix: 's:'}}",
        "data: {r: {url: x}, shadow.r: {url: x}}",
        "data: {r: {url: x, pool: 5}, shadow.r: {url: x}}",
        "mark: {keys: [{id: a, secret_env: NOT_SET}]}",
    ],
)
def test_an_error_only_in_shadows_part_starts_normal_with_shadow_off_and_strict_refuses(examined, written, text):
    found = examined(text)
    assert found.normal_problems == ()
    assert len(found.shadow_problems) >= 1
    assert found.settings.shadow is None
    assert found.settings.shadow_problems == found.shadow_problems
    with pytest.raises(ConfigError) as raised:
        load(written(text), environ={}, strict=True)
    assert raised.value.problems == found.shadow_problems


def test_problems_of_both_parts_come_together_normals_first(written):
    with pytest.raises(ConfigError) as raised:
        load(written("shadow.worker: {nice: x}\nworker: {nice: y}"), environ={})
    assert [p.key for p in raised.value.problems] == ["worker nice", "shadow.worker nice"]


@pytest.mark.parametrize(
    ("text", "count"), [("service: s\nkafka:\n", 2), ("service: s\n", 2), ("kafka: {group.id: g}", 2)]
)
def test_what_is_required_is_missed(examined, text, count):
    found = examined(text, whole=True)
    assert len(found.normal_problems) == count
    assert all("is missing" in p.message for p in found.normal_problems)


def test_a_required_value_that_cannot_be_read_is_not_also_missing(examined):
    found = examined("service: ''\nkafka: {bootstrap.servers: null, group.id: [x]}", whole=True)
    assert [p.key for p in found.normal_problems] == ["service", "kafka bootstrap.servers", "kafka group.id"]


def test_a_cap_of_nought_is_for_shadow_alone(written):
    examined = examine(written("resilience: {a: {max_concurrent: 0}}\n"))
    (problem,) = examined.normal_problems
    assert (problem.key, problem.message) == ("resilience a max_concurrent", "is 0, so that no real call is ever made")
    settings = load(written("resilience: {a: {max_concurrent: 5}, shadow.a: {max_concurrent: 0, warm_up: 1m}}\n"))
    rules = [settings.of(lane).breaker("a") for lane in Lane]
    assert [(rule and rule.max_concurrent, rule and rule.warm_up_s) for rule in rules] == [(5, None), (0, 60.0)]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("rate_limit: {a: {hard: 5/s, fleet: true}}", "rate_limit a fleet", "normal shares nothing"),
        ("default_rate_limit: {hard_rate_limit: 5, fleet: true}", "default_rate_limit fleet", "normal shares no"),
        ("rate_limit: {shadow.a: {hard: 5/s, fleet: true}}", "rate_limit shadow.a fleet", "no place to share through"),
        (
            "fleet: {url: 'redis://h:1'}\nrate_limit: {a: {hard: 5/s, warm_up: 1m, shadow_fleet: true}}",
            "rate_limit a shadow_fleet",
            "what is shared does not warm up",
        ),
        ("fleet: {url: 'http://h:1'}", "fleet url", "not a Redis URL"),
    ],
)
def test_what_is_shared_is_shadow_s_alone_and_needs_a_place(examined, text, key, message):
    (problem,) = examined(text).problems
    assert problem.key == key
    assert message in problem.message


def test_a_shared_rate_is_shadow_s_and_normal_has_no_place_to_ask(loaded):
    text = "fleet: {url: 'redis://u:pw@h:1', timeout: 20ms}\nrate_limit: {a: {hard: 5/s, shadow_fleet: true}}"
    settings = loaded(text)
    normal, shadow = settings.of(Lane.NORMAL), settings.of(Lane.SHADOW)
    assert normal.fleet is None
    assert (shadow.fleet.service, shadow.fleet.timeout_s) == ("uservoucher", 0.02)
    assert [lane.rate("a").fleet for lane in (normal, shadow)] == [False, True]
    assert "pw" not in repr(settings)


KEYS = "keys: [{id: k1, secret_env: K}]"


@pytest.mark.parametrize(
    ("mark", "lease", "needed"),
    [("", "", False), (KEYS, "", True), (KEYS, "lease: false", False), ("", "lease: true", True)],
)
def test_runs_need_a_lease_where_marks_are_signed_unless_it_is_said_otherwise(loaded, mark, lease, needed):
    settings = loaded(f"mark: {{{mark}}}\nfleet: {{url: 'redis://h:1', {lease}}}", {"K": "secret-0123456789abcdef"})
    assert settings.fleet.lease is needed
    assert settings.of(Lane.SHADOW).fleet == settings.fleet
