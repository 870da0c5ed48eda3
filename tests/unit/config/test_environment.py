"""The environment over the file, and the live layer over both."""

from __future__ import annotations

import pytest

from shadowstream.config import Route, load

PREFIX = "SHADOWSTREAM__"


@pytest.mark.parametrize(
    "variable",
    [
        "KAFKA__BOOTSTRAP.SERVERS",
        "kafka__bootstrap.servers",
        "KAFKA__BOOTSTRAP_SERVERS",
    ],
)
def test_a_variable_sets_a_key_whatever_its_case(loaded, variable):
    assert loaded("", {PREFIX + variable: "broker:9093"}).normal.kafka["bootstrap.servers"] == "broker:9093"


@pytest.mark.parametrize(
    "variable",
    [
        "RATE_LIMIT__SHADOW.VOUCHER.CLAIM__HARD",
        "RATE_LIMIT__SHADOW_VOUCHER_CLAIM__HARD",
        "RATE_LIMIT__VOUCHER.CLAIM__SHADOW_HARD",
        "RATE_LIMIT__VOUCHER.CLAIM__SHADOW__HARD",
        "SHADOW.RATE_LIMIT__VOUCHER.CLAIM__HARD",
        "SHADOW__RATE_LIMIT__VOUCHER_CLAIM__HARD",
    ],
)
def test_a_variable_knows_both_spellings(loaded, variable):
    settings = loaded("rate_limit: {voucher.claim: {hard: 5/s}}", {PREFIX + variable: "50/s"})
    assert settings.normal.rates["voucher.claim"].hard_per_s == 5
    assert settings.shadow.rates["voucher.claim"].hard_per_s == 50


def test_a_variable_keeps_the_case_that_the_file_uses(loaded):
    text = "rate_limit: {GetVoucher: {hard: 5/s}}\ntopics: {Voucher_Claimed: {}}"
    settings = loaded(
        text, {PREFIX + "RATE_LIMIT__GETVOUCHER__BURST": "3", PREFIX + "TOPICS__VOUCHER_CLAIMED__CONCURRENCY": "9"}
    )
    assert settings.normal.rates["GetVoucher"].burst == 3
    assert settings.normal.topics["Voucher_Claimed"].concurrency == 9


def test_a_rule_that_no_file_names_is_spelled_in_small_letters(loaded):
    settings = loaded("", {PREFIX + "RATE_LIMIT__VOUCHER.NEW__HARD": "5/s"})
    assert settings.normal.rates["voucher.new"].hard_per_s == 5


@pytest.mark.parametrize(("text", "value"), [("{hard: 5/s, burst: 2}", 2), ('{"hard": "5/s"}', None), ("null", "none")])
def test_a_variable_may_hold_a_whole_rule(loaded, text, value):
    rule = loaded("rate_limit: {a: {hard: 1/s}}", {PREFIX + "RATE_LIMIT__A": text}).normal.rates["a"]
    assert (rule.burst if rule else "none") == value


def test_a_variable_may_hold_a_whole_section_or_a_list(loaded):
    settings = loaded("", {PREFIX + "TOPICS": "{t: {route: topic}}", PREFIX + "TASKS__X": "{every: 1s}"})
    assert settings.normal.topics["t"].route is Route.TOPIC
    text = "multi_key_rate_limit_v2: {a: {keys: [x], hard: 1/s}}"
    settings = loaded(text, {PREFIX + "MULTI_KEY_RATE_LIMIT_V2__A__KEYS": "[y, z]"})
    assert settings.normal.key_limits["a"].keys == ("y", "z")


def test_the_whole_configuration_of_a_secret_property_may_come_from_a_shell(loaded):
    settings = loaded("", {PREFIX + "KAFKA__SASL_PASSWORD": "p@ss: #1", PREFIX + "KAFKA__ssl_ca": "PEM"})
    assert settings.normal.kafka["sasl.password"] == "p@ss: #1"
    assert settings.normal.kafka["ssl_ca"] == "PEM"


@pytest.mark.parametrize("text", ["0123", "*star", "&amp", "a: b", "x #y", "!bang", "1:30", "@at", "%p", "2024-01-01"])
def test_a_plain_value_from_the_environment_is_never_twisted(loaded, text):
    assert loaded("", {PREFIX + "KAFKA__SASL.PASSWORD": text}).normal.kafka["sasl.password"] == text


def test_a_topic_leaves_shadow_traffic_by_a_variable(loaded):
    settings = loaded("topics: {t: {}}", {PREFIX + "TOPICS__T__SHADOW": "off"})
    assert not settings.shadow.topics["t"].enabled


@pytest.mark.parametrize(
    ("variable", "value", "key", "cure"),
    [
        ("KAFKE__GROUP.ID", "x", "kafke", "Did you mean `kafka`?"),
        ("WORKER__NICER", "1", "worker nicer", "Did you mean `nice`?"),
        ("WORKER__BATCH", "many", "worker batch", "Write a whole number, 1 or more."),
        ("WORKER__BATCH", " ", "worker batch", "Unset it, or write null to say none."),
        ("", "x", "", ""),
        ("RATE_LIMIT__A", "{hard: ", "rate_limit a", "Correct the YAML there"),
        ("SERVICE__X", "1", "service", "Write 1 to 200 letters"),
    ],
)
def test_a_wrong_variable_is_a_problem_at_its_name(examined, variable, value, key, cure):
    found = examined("", {PREFIX + variable: value})
    (problem,) = found.normal_problems
    assert (problem.place, problem.key) == (PREFIX + variable, key)
    assert cure in problem.cure


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SHADOW.WORKER__NICE", "x"),
        ("WORKER__SHADOW_NICE", ""),
        ("RATE_LIMIT__SHADOW.A__HARD", "{"),
        ("RATE_LIMIT__A__SHADOW__HARD", "1/x"),
        ("SHADOW__KAFKE__X", "1"),
    ],
)
def test_a_wrong_variable_in_shadows_part_turns_only_shadow_off(examined, variable, value):
    found = examined("", {PREFIX + variable: value})
    assert found.normal_problems == ()
    assert len(found.shadow_problems) == 1
    assert found.settings.shadow is None


def test_two_variables_that_differ_only_in_case_and_say_two_things_are_a_problem(examined):
    found = examined("", {PREFIX + "WORKER__BATCH": "1", PREFIX + "worker__batch": "2"})
    assert "says 1 for the same thing" in found.normal_problems[0].message


def test_other_variables_are_not_ours(loaded):
    loaded("", {"PATH": "/bin", "SHADOWSTREAM": "y", "SHADOWSTREAM_KAFKA": "z"})


def test_the_environment_may_name_the_file(written):
    written("worker: {batch: 7}")
    assert load("none.yaml", environ={"SHADOWSTREAM_CONFIG": "c.yaml"}).normal.worker.batch == 7


def test_a_wrong_live_layer_is_blamed_by_lane_too(examined):
    found = examined("", live={"worker": {"batch": 0}, "shadow.worker": {"nice": 99}})
    assert [(p.place, p.key) for p in found.normal_problems] == [("live", "worker batch")]
    assert [(p.place, p.key) for p in found.shadow_problems] == [("live", "shadow.worker nice")]


@pytest.mark.parametrize(
    "live", [{1: 2}, {"kafka": [1]}, {"data": object()}, {"rate_limit": {"a": {"hard": object()}}}]
)
def test_a_live_layer_of_strange_things_is_a_problem_and_no_crash(examined, live):
    assert examined("", live=live).problems


def test_a_live_layer_that_contains_itself_ends(examined):
    live: dict[str, object] = {}
    live["worker"] = live
    assert examined("", live=live).problems
