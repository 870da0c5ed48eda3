"""Where data goes never falls back, and where the two lanes meet in Kafka they must differ."""

from __future__ import annotations

import pytest

from shadowstream.kafka.clients import producer_properties, transactional_properties


def kafka(examined, properties):
    return examined(f"service: s\nkafka: {{bootstrap.servers: b, group.id: g, {properties}}}\n", whole=True)


def test_each_lane_has_its_own_group_and_client(loaded):
    settings = loaded("")
    assert dict(settings.normal.kafka) == {
        "bootstrap.servers": "localhost:9092",
        "group.id": "uservoucher",
        "client.id": "uservoucher.normal",
    }
    assert dict(settings.shadow.kafka) == {
        "bootstrap.servers": "localhost:9092",
        "group.id": "uservoucher.shadow",
        "client.id": "uservoucher.shadow",
    }


def test_shadow_may_have_its_own_group_and_both_lanes_a_client_name(examined):
    settings = kafka(examined, "client.id: c, shadow_group.id: stress").settings
    assert (settings.normal.kafka["client.id"], settings.shadow.kafka["client.id"]) == ("c.normal", "c.shadow")
    assert settings.shadow.kafka["group.id"] == "stress"


def test_any_other_property_passes_through_and_falls_back(examined):
    settings = kafka(examined, "linger.ms: 5, statistics.interval.ms: 0, shadow_linger.ms: null").settings
    assert settings.normal.kafka["linger.ms"] == 5
    assert "linger.ms" not in settings.shadow.kafka
    assert settings.shadow.kafka["statistics.interval.ms"] == 0


def test_a_property_that_the_engine_owns_is_refused(examined):
    for name in ("enable.auto.commit", "enable.auto.offset.store"):
        (problem,) = kafka(examined, f"{name}: false").normal_problems
        assert "the engine commits" in problem.cure


def test_a_transactional_id_without_a_shadow_one_turns_shadow_off(examined):
    found = kafka(examined, "transactional.id: tx")
    (problem,) = found.shadow_problems
    assert problem.key == "kafka transactional.id"
    assert "transactional.id: tx.shadow" in problem.cure
    assert found.settings.normal.kafka["transactional.id"] == "tx"


def test_two_lanes_cannot_share_a_transactional_id(examined):
    assert (
        "the same as" in kafka(examined, "transactional.id: tx, shadow_transactional.id: tx").shadow_problems[0].message
    )


@pytest.mark.parametrize(("value", "expected"), [("tx.shadow", "tx.shadow"), ("null", None)])
def test_shadow_may_have_its_own_transactional_id_or_none(examined, value, expected):
    settings = kafka(examined, f"transactional.id: tx, shadow_transactional.id: {value}").settings
    assert settings.shadow.kafka.get("transactional.id") == expected


def test_a_sink_that_only_normal_has_turns_shadow_off_and_normal_keeps_it(examined):
    found = examined("data:\n  redis: {url: redis://a}\n  db: {dsn: x}\n  shadow.db: {dsn: y}\n")
    (problem,) = found.shadow_problems
    assert (problem.place, problem.key) == ("c.yaml:4", "data redis")
    assert "shadow.redis" in problem.cure
    assert found.settings.normal.data["redis"] == {"url": "redis://a"}


def test_inside_a_sink_nothing_is_inherited(loaded):
    settings = loaded("data: {r: {url: a, pool: 10, prefix: 'n:'}, shadow.r: {url: b}}")
    assert settings.shadow.data == {"r": {"url": "b"}}


def test_a_sink_that_only_shadow_has_is_fine(loaded):
    settings = loaded("data: {shadow.ledger: {url: b}}")
    assert dict(settings.normal.data) == {}
    assert settings.shadow.data == {"ledger": {"url": "b"}}


def test_the_environment_may_complete_a_sink(loaded):
    environ = {"SHADOWSTREAM__DATA__SHADOW.R__URL": "redis://shadow"}
    assert loaded("data: {r: {url: a}}", environ).shadow.data == {"r": {"url": "redis://shadow"}}


def test_a_topic_is_transactional_in_both_lanes_or_in_one(loaded):
    settings = loaded("topics: {a: {transactional: true}, b: {shadow: {transactional: true}}, c: {}}")
    assert [settings.normal.topics[name].transactional for name in "abc"] == [True, False, False]
    assert [settings.shadow.topics[name].transactional for name in "abc"] == [True, True, False]
    assert [settings.transactional(name) for name in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("given", "normal", "shadow"),
    [
        ("", "g.one.normal", "g.shadow.one.shadow"),
        ("transactional.id: tx, shadow_transactional.id: sx,", "tx.one.normal", "sx.one.shadow"),
        ("transactional.id: tx, shadow_transactional.id: tx.shadow,", "tx.one.normal", "tx.shadow.one.shadow"),
    ],
)
def test_the_lane_and_the_process_are_in_the_transactional_id(examined, given, normal, shadow):
    settings = kafka(examined, f"{given} group.instance.id: one").settings
    ids = [transactional_properties(lane)["transactional.id"] for lane in (settings.normal, settings.shadow)]
    assert ids == [normal, shadow]


def test_processes_without_a_name_of_their_own_never_share_a_transactional_id(loaded):
    normal = loaded("").normal
    assert len({transactional_properties(normal)["transactional.id"] for _ in range(50)}) == 50


def test_only_the_producer_of_transactions_is_transactional(examined):
    settings = kafka(
        examined, "transactional.id: tx, shadow_transactional.id: sx, transaction.timeout.ms: 9000"
    ).settings
    assert {"transactional.id", "transaction.timeout.ms"}.isdisjoint(producer_properties(settings.normal))
    assert transactional_properties(settings.normal)["transaction.timeout.ms"] == 9000


def test_a_transactional_id_that_nothing_uses_is_said(loaded, examined):
    said = [each for each in loaded("topics: {t: {}}").warnings if "transactional.id" in each]
    assert said == []
    warned = kafka(examined, "transactional.id: tx, shadow_transactional.id: sx").settings.warnings
    assert [each.partition(":")[0] for each in warned] == ["kafka transactional.id"] * 2
    assert "in the shadow lane" in warned[1]


@pytest.mark.parametrize(
    ("topic", "isolation", "blamed"),
    [
        ("transactional: true", "isolation.level: read_uncommitted", "normal"),
        ("transactional: true", "shadow_isolation.level: read_uncommitted", "shadow"),
        ("shadow: {transactional: true}", "isolation.level: read_uncommitted", "shadow"),
        ("transactional: true", "isolation.level: read_committed", ""),
        ("transactional: false", "isolation.level: read_uncommitted", ""),
    ],
)
def test_who_reads_what_others_have_not_committed_has_no_transactions(examined, topic, isolation, blamed):
    found = examined(
        f"service: s\nkafka: {{bootstrap.servers: b, group.id: g, {isolation}}}\ntopics: {{t: {{{topic}}}}}", whole=True
    )
    problems = {"normal": found.normal_problems, "shadow": found.shadow_problems}
    assert [lane for lane, some in problems.items() if some] == ([blamed] if blamed else [])
    for problem in problems.get(blamed, ()):
        assert problem.place == "c.yaml:2"
        assert "topic t is transactional" in problem.message
        assert "write `transactional: false` for t" in problem.cure
