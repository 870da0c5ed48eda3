"""A secret is in no repr, no error and no explanation."""

from __future__ import annotations

import pytest

from shadowstream.config import explain
from shadowstream.lane import Lane

SECRET = "hunter2secret"
TEXT = f"""\
mark: {{keys: [{{id: k1, secret_env: KEY}}]}}
data:
  redis: {{url: "redis://user:{SECRET}@host/0", nested: {{password: {SECRET}}}, tags: [a]}}
  shadow.redis: {{dsn: "host=x password={SECRET} user=y", url: "redis://:{SECRET}@other/0", token: {SECRET}}}
tasks: {{t: {{api_key: {SECRET}}}}}
shadow.kafka: {{sasl.password: {SECRET}}}
"""
ENVIRON = {"KEY": SECRET, "SHADOWSTREAM__KAFKA__SASL_PASSWORD": SECRET}


@pytest.fixture
def settings(loaded):
    return loaded(TEXT, ENVIRON, strict=True)


def test_the_settings_hold_the_secrets(settings):
    assert settings.mark.keys[0].secret == SECRET.encode()
    assert settings.normal.kafka["sasl.password"] == SECRET
    assert SECRET in settings.shadow.data["redis"]["url"]


def test_no_secret_is_in_any_repr(settings):
    for thing in (settings, settings.mark, settings.normal, settings.shadow, settings.layers, settings.mark.keys):
        assert SECRET not in repr(thing)
    given = settings.layers.find("kafka", "", "sasl.password", (Lane.NORMAL,))
    assert SECRET not in repr(given)


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("data", "redis"),
        ("data", "redis url"),
        ("data", "redis nested"),
        ("data", "redis dsn"),
        ("kafka", "sasl.password"),
        ("tasks", "t"),
        ("mark", "keys"),
    ],
)
def test_no_secret_is_in_any_explanation(settings, section, key, lane):
    assert SECRET not in repr(explain(settings, section, key, lane))


def test_what_is_no_secret_stays_readable(settings):
    assert explain(settings, "data", "redis url", Lane.NORMAL).value == "redis://user:***@host/0"
    assert explain(settings, "data", "redis dsn", Lane.SHADOW).value == "host=x password=*** user=y"
    assert explain(settings, "mark", "keys", Lane.NORMAL).value == [{"id": "k1", "secret_env": "KEY"}]


@pytest.mark.parametrize(
    "text",
    [
        f"kafka: {{bootstrap.servers: b, group.id: g, sasl.password: [{SECRET}]}}",
        f"kafka: {{bootstrap.servers: b, group.id: g, sasl.password: {SECRET}, shadow_sasl.password: [{SECRET}]}}",
        f"kafka: {{bootstrap.servers: b, group.id: g, shadow_sasl.password: {SECRET}, shadow: {{sasl.password: x}}}}",
        f"kafka: {SECRET}",
        f"data: {{r: 'redis://:{SECRET}@h'}}",
        f"data: {{r: {{url: 'redis://:{SECRET}@h'}}}}",
        f"data: {{r: {{url: a, shadow_url: 'redis://:{SECRET}@h', shadow: {{url: 'redis://:x@h'}}}}}}",
        f"mark: {{keys: [{{id: k, secret: {SECRET}}}]}}",
        f"mark: {{keys: [{{id: k, secret_env: {SECRET}}}]}}",
        f"mark: {{keys: {SECRET}}}",
        f"kafka: {{sasl.password: *{SECRET}}}",
        f"kafka: {{sasl.password: 'x' {SECRET}}}",
        f"kafka: {{sasl.password: !{SECRET} x}}",
    ],
)
def test_no_secret_is_in_any_problem(examined, text):
    found = examined(f"service: s\n{text}\n", whole=True)
    assert found.problems
    assert SECRET not in repr(found)
    assert SECRET not in "".join(map(str, found.problems))


def test_no_secret_from_the_environment_is_in_a_problem(examined):
    found = examined("", {"SHADOWSTREAM__KAFKA__SASL.PASSWORD": f"[{SECRET}", "SHADOWSTREAM__KAFKA": SECRET})
    assert len(found.normal_problems) == 2
    assert SECRET not in repr(found.problems)


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_a_secret_that_is_missing_or_empty_turns_only_shadow_off(examined, environ):
    found = examined("mark: {keys: [{id: old, secret_env: OLD}, {id: k1, secret_env: KEY}]}", {"OLD": "x", **environ})
    (problem,) = found.shadow_problems
    assert problem.key == "mark keys 2 secret_env"
    assert "KEY is not set, or is empty" in problem.message
    assert found.settings.shadow is None
    assert [key.id for key in found.settings.mark.keys] == ["old"]
    assert found.settings.mark.trust == "signed"


def test_two_keys_cannot_have_one_id(examined):
    found = examined("mark: {keys: [{id: a, secret_env: A}, {id: a, secret_env: B}]}", {"A": "1", "B": "2"})
    assert "used twice" in found.normal_problems[0].message


def test_a_secret_may_be_any_bytes(loaded):
    settings = loaded("mark: {keys: [{id: a, secret_env: A}]}", {"A": "x\udcff"})
    assert settings.mark.keys[0].secret == b"x\xff"
