"""``shadowstream doctor`` against a real broker and a real Redis: each line that says what to do has a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from redis import Redis

from shadowstream.cli import main
from shadowstream.fcst.doctor import State, examined
from shadowstream.fcst.doctor.shared import _clock
from shadowstream.gate.fleet import Switch
from shadowstream.lane import Lane
from tests.broker.rig import KEY_VARIABLE, SECRET, SIGNED, Rig, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import shadowstream as ss
    from containers.redis import RedisContainer

pytest_plugins = ["tests.broker.rig"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)


def failures(settings: ss.Settings, run: str | None = None) -> list[str]:
    """Return what is to be mended, and see that each line says how."""
    found = list(examined(settings, run, timeout_s=15.0))
    assert all(bool(each.cure) == (each.state is not State.OK) for each in found)
    return [f"{each.about}: {each.told}" for each in found if each.state is State.FAIL]


def test_a_service_that_is_ready_has_nothing_to_be_mended(rig: Rig, redis_url: str, capsys) -> None:
    topic = rig.topic(partitions=2)
    sections = {"mark": SIGNED, "fleet": {"url": redis_url}, "service": rig.group}
    settings = rig.settings({topic: {"rounds": 2, "shadow": {"on_limit": "park"}}}, **sections)
    rig.kafka.create_topics({f"{topic}.retry": 1, f"{topic}.shadow.retry": 1})
    assert settings.fleet is not None
    Switch(settings.fleet).arm("r1", 60.0)
    assert failures(settings, "r1") == []
    config = ["--config", str(rig.folder / "shadowstream.yaml")]
    assert main(["doctor", "--run", "r1", "--json", *config]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    abouts = {line["about"] for line in told["lines"]}
    assert {"config", "keys", "fleet", "clock", "lease", "brokers", f"topic {topic}", f"group {rig.group}"} <= abouts
    assert main(["doctor", *config]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 to be mended before a test")
    (found,) = failures(settings, "another")
    assert found.startswith("lease: run another has no lease (those that have one: r1 for ")
    assert main(["doctor", "--run", "another", *config]) == 1
    assert "shadowstream arm another" in capsys.readouterr().out


def test_a_topic_that_is_missing_or_lacks_what_belongs_beside_it_is_said(rig: Rig) -> None:
    lonely, _ = rig.topics("lonely", "other", aside=False)
    found = failures(rig.settings({lonely: {"rounds": 1}, "nowhere": {}}))
    sides = [f"{lonely}.quarantine", f"{lonely}.dlq", f"{lonely}.retry"]
    assert all(side in found[0] for side in [*sides, f"{lonely}.shadow.dlq", f"{lonely}.shadow.retry"])
    assert f"{lonely}.shadow.parked" not in found[0]
    assert found[1] == "topic nowhere: is not on the cluster"
    assert len(found) == 2


def test_a_compacted_topic_on_which_shadow_messages_lie_is_refused(rig: Rig) -> None:
    like = rig.topic()
    topic = f"{like}.compacted"
    rig.kafka.create_topics({topic: 1}, {"cleanup.policy": "compact"})
    rig.kafka.create_topics(
        {f"{topic}.{side}": 1 for side in ("quarantine", "dlq", "shadow.dlq")} | {f"shadow.{topic}": 1}
    )
    (found,) = failures(rig.settings({topic: {}}))
    assert "is compacted" in found
    assert failures(rig.settings({topic: {"route": "topic"}})) == []
    assert failures(rig.settings({topic: {"enabled": False}})) == []


def test_a_member_that_does_not_know_marks_is_refused(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}})
    worker = rig.worker(settings)

    @worker.handles(topic)
    def handle(message: ss.Message) -> None:
        pass

    with worker:
        eventually(lambda: all(rig.members(rig.group_of(lane)) for lane in Lane), "both lanes are members")
        assert failures(settings) == []
        plain = rig.member(Lane.NORMAL, topic)
        try:
            eventually(lambda: plain.poll(0.1) or len(rig.members(rig.group)) == 2, "the plain one is a member")
            (found,) = failures(settings)
            assert found == f"group {rig.group}: 1 members do not say that they know marks: a"
            # Where shadow has topics of its own, it never sees a marked message.
            assert failures(rig.settings({topic: {"route": "topic"}})) == []
        finally:
            plain.close()


def test_without_brokers_the_rest_is_looked_at_all_the_same(tmp_path: Path, capsys) -> None:
    config = tmp_path / "shadowstream.yaml"
    config.write_text("service: s\nkafka: {bootstrap.servers: '127.0.0.1:1', group.id: g}\ntopics: {t: {}}\n")
    assert main(["doctor", "--config", str(config), "--timeout", "0.5", "--json"]) == 1
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [line["about"] for line in lines if line["state"] == "fail"] == ["brokers"]
    assert any("marks are not signed" in line["told"] for line in lines)


def test_a_shadow_lane_that_is_off_is_said_with_its_reasons(rig: Rig) -> None:
    settings = rig.settings({}, data={"redis": {"url": "redis://somewhere"}})
    (found,) = failures(settings)
    assert found.startswith("config: shadow is off: ")
    assert "redis" in found


@pytest.fixture
def server(own_redis: RedisContainer) -> Iterator[Redis]:
    with Redis.from_url(own_redis.url) as client:
        yield client


def test_a_redis_that_cannot_be_written_or_is_gone_is_said(rig: Rig, own_redis: RedisContainer, server: Redis) -> None:
    settings = rig.settings({}, fleet={"url": own_redis.url})
    assert failures(settings) == []
    server.config_set("maxmemory", "100mb")
    server.config_set("maxmemory-policy", "allkeys-lru")
    assert any(each.state is State.WARN and "forgets keys" in each.told for each in examined(settings))
    server.replicaof("127.0.0.1", "1")
    assert failures(settings) == ["fleet: Redis is a slave, and nothing can be written there"]
    own_redis.kill()
    assert [each.partition(" (")[0] for each in failures(settings)] == ["fleet: Redis does not answer"]


@pytest.mark.parametrize(
    ("ahead_s", "state"), [(0.0, "ok"), (14.0, "ok"), (-14.0, "ok"), (16.0, "fail"), (-1e6, "fail")]
)
def test_a_clock_that_is_off_by_half_of_what_marks_bear_is_said(ahead_s: float, state: str) -> None:
    found = _clock(ahead_s, 30.0)
    assert found.state == state
    assert ("ahead of" if ahead_s > 0 else "behind") in found.told


def test_what_this_service_may_not_do_is_said(guarded_rig: Rig) -> None:
    rig = guarded_rig
    topic = rig.topic()
    settings = rig.settings({topic: {}})
    assert failures(settings) == []
    rig.deny(ResourceType.TOPIC, topic, AclOperation.READ)
    rig.deny(ResourceType.TOPIC, f"{topic}.quarantine", AclOperation.WRITE)
    eventually(lambda: len(failures(settings)) == 2, "the broker goes by the rules")
    found = failures(settings)
    assert found == [
        f"topic {topic}: this service may not READ {topic}",
        f"topic {topic}: this service may not WRITE {topic}.quarantine",
    ]
