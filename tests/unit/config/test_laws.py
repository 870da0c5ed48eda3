"""Laws 1 and 5 over random configurations: the spelling never matters, and normal never reads shadow keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shadowstream.config import LaneSettings, examine
from shadowstream.lane import Lane

GROUND = {"service": "s", "kafka": {"bootstrap.servers": "b", "group.id": "g"}}
QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

RATES = st.sampled_from(["5/s", "60/m", 0, 7, None])
FIELDS = {
    "rate_limit": {"soft": RATES, "hard": RATES, "burst": st.integers(1, 9) | st.none()},
    "resilience": {
        "failure_rate": st.sampled_from([0.1, 0.5, 1]),
        "window": st.integers(20, 99),
        "open_for": st.sampled_from(["500ms", "5s", 3]),
        "slow_call": st.sampled_from(["1s", None]),
    },
    "topics": {"concurrency": st.integers(1, 9), "on_limit": st.sampled_from(["wait", "park", "shed"])},
    "tasks": {"every": st.sampled_from(["1s", 60]), "batch": st.integers(0, 9)},
}
NAMES = st.sampled_from(["voucher.claim", "voucher.use", "a"])


def rules(section):
    return st.fixed_dictionaries({}, optional=FIELDS[section])


def nullable(section):
    return rules(section) if section == "topics" else rules(section) | st.none()


@st.composite
def meanings(draw):
    """What is meant, without a spelling: for each section and name, the rule of each lane."""
    meant = {}
    for section in FIELDS:
        for name in draw(st.sets(NAMES, max_size=2)):
            meant[section, name] = (draw(nullable(section)), draw(st.none() | st.tuples(nullable(section))))
    return meant


def spelled(meant, choose) -> dict[str, object]:
    """Write a meaning down, each shadow rule in the spelling chosen for it."""
    document: dict[str, object] = json.loads(json.dumps(GROUND))
    for (section, name), (normal, shadow) in meant.items():
        rules_ = document.setdefault(section, {})
        rules_[name] = None if normal is None else dict(normal)
        if shadow is None:
            continue
        (rule,) = shadow
        way = choose()
        if rule is None or not rule or normal is None or way == "prefix":
            rules_[f"shadow.{name}"] = rule
        elif way == "fields" and normal:
            rules_[name].update({f"shadow_{field}": value for field, value in rule.items()})
        elif way == "nested" and normal:
            rules_[name]["shadow"] = rule
        else:
            document.setdefault(f"shadow.{section}", {})[name] = rule
    return document


def lanes(tmp_path, document):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    found = examine(path, environ={})
    assert found.problems == ()
    return found.settings.normal, found.settings.shadow


WAYS = st.sampled_from(["prefix", "fields", "nested", "section"])


@QUIET
@given(meanings(), st.data())
def test_a_configuration_resolves_the_same_in_every_spelling(tmp_path, meant, data):
    one = lanes(tmp_path, spelled(meant, lambda: "prefix"))
    other = lanes(tmp_path, spelled(meant, lambda: data.draw(WAYS)))
    assert one == other


def model(meant, section, name, field, default, lane):
    """Say the lookup in one place and in plain words, without layers."""
    normal, shadow = meant[section, name]
    for rule in (shadow[0] if lane is Lane.SHADOW and shadow else {}, normal):
        if rule is None:
            return default
        if field in rule:
            return rule[field]
    return default


@QUIET
@given(meanings())
def test_each_field_falls_back_on_its_own(tmp_path, meant):
    for lane in lanes(tmp_path, spelled(meant, lambda: "fields")):
        for section, name in meant:
            if section == "topics":
                topic = lane.topics[name]
                assert topic.concurrency == model(meant, section, name, "concurrency", 1, lane.lane)
            if section == "resilience" and lane.breakers.get(name) is not None:
                assert lane.breakers[name].window == model(meant, section, name, "window", 100, lane.lane)
            if section == "rate_limit" and lane.rates.get(name) is not None:
                assert lane.rates[name].burst == model(meant, section, name, "burst", None, lane.lane)


BROKEN = st.sampled_from(["x/y", -1, [], {}, {"no": {"such": "thing"}}, None, True, "5/s", 3, {"hard": "1/s"}])
SHADOW_KEYS = st.sampled_from(
    [
        ("shadow.rate_limit",),
        ("shadow.nonsense",),
        ("shadow",),
        ("shadow.kafka", "group.id"),
        ("shadow.worker", "nice"),
        ("worker", "shadow_nice"),
        ("kafka", "shadow_group.id"),
        ("kafka", "shadow"),
        ("default_rate_limit", "shadow_hard_rate_limit"),
        ("rate_limit", "shadow.voucher.claim"),
        ("rate_limit", "shadow."),
        ("resilience", "shadow.a"),
        ("rate_limit", "voucher.claim", "shadow_hard"),
        ("resilience", "a", "shadow_window"),
        ("topics", "shadow.zzz", "order"),
        ("tasks", "shadow.a"),
        ("data", "shadow.redis"),
    ]
)


def with_key(document: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        below = document.setdefault(key, {})
        if not isinstance(below, dict):
            return
        document = below
    document[path[-1]] = value


@QUIET
@given(meanings(), st.lists(st.tuples(SHADOW_KEYS, BROKEN), max_size=5))
def test_normal_is_the_same_with_and_without_shadow_keys_valid_or_broken(tmp_path, meant, additions):
    without = spelled({key: (normal, None) for key, (normal, _) in meant.items()}, lambda: "prefix")
    with_shadow = spelled(meant, lambda: "prefix")
    for path, value in additions:
        with_key(with_shadow, path, value)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(with_shadow), encoding="utf-8")
    found = examine(path, environ={})
    assert found.normal_problems == ()
    assert found.settings.normal == lanes(tmp_path, without)[0]


KEYS = st.text(max_size=6) | st.sampled_from(
    [*FIELDS, "mark", "kafka", "data", "worker", "service", "keys", "shadow", "shadow.a", "shadow_hard", "hard", "a"]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@QUIET
@given(st.dictionaries(KEYS, ANY, max_size=5))
def test_no_document_makes_it_crash(tmp_path, document):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({**GROUND, **document}), encoding="utf-8")
    found = examine(path, environ={}, live=document)
    for problem in found.problems:
        assert problem.place
        assert problem.message
        assert problem.cure


@QUIET
@given(st.text(max_size=60))
def test_no_text_makes_it_crash(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    found = examine(path, environ={"SHADOWSTREAM__A": text, "SHADOWSTREAM__KAFKA__X": text})
    assert found.problems


def test_nothing_in_a_lane_must_be_looked_up_per_message(tmp_path):
    normal, _ = lanes(tmp_path, spelled({("rate_limit", "a"): ({"hard": 1}, None)}, lambda: "prefix"))
    for field in fields(LaneSettings):
        value = getattr(normal, field.name)
        assert not isinstance(value, Mapping) or type(value).__name__ == "mappingproxy"
