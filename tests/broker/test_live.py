"""A worker goes by changes of its configuration while it runs: of its file, and of what is laid over in Redis."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

import shadowstream as ss
from shadowstream.cli import main
from shadowstream.config.live import Watcher
from shadowstream.events import Configured, Listeners
from shadowstream.gate import Gates
from shadowstream.gate.fleet import Switch
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, Rig, eventually
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shadowstream.config import LaneSettings, Settings

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"


def file_of(settings: Settings) -> Path:
    assert settings.origin is not None
    return Path(settings.origin.path)


def change(settings: Settings, **sections: Any) -> None:
    """Write the file anew with other sections."""
    file = file_of(settings)
    file.write_text(json.dumps({**json.loads(file.read_text()), **sections}))


def test_a_worker_goes_by_what_its_file_says_now_in_each_lane_and_loses_nothing(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings({topic: {}}, rate_limit={f"shadow.{topic}": {"hard": 0}})
    worker = rig.worker(settings)
    handled: dict[Lane, list[str]] = {lane: [] for lane in Lane}

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        handled[message.lane].append((message.value() or b"").decode())

    rig.send(topic, ["s1", "s2"], MARKED)
    rig.send(topic, ["n1"])
    with worker:
        eventually(lambda: handled[Lane.NORMAL] == ["n1"], "normal has no limit")
        change(settings, rate_limit={f"shadow.{topic}": {"hard": "much"}})
        eventually(lambda: [e for e in rig.heard.events if isinstance(e, Configured) and not e.taken], "it is refused")
        assert handled[Lane.SHADOW] == []
        change(settings, rate_limit={f"shadow.{topic}": {"hard": "1000/s"}, topic: {"hard": 0}})
        eventually(lambda: handled[Lane.SHADOW] == ["s1", "s2"], "shadow may go on")
        eventually(lambda: not admits(worker, Lane.NORMAL, topic), "normal, which had no gate, has one")
        rig.send(topic, ["n2"])
        rig.send(topic, ["s3"], MARKED)
        eventually(lambda: len(handled[Lane.SHADOW]) == 3, "shadow goes on")
        assert handled[Lane.NORMAL] == ["n1"]
        change(settings, rate_limit={})
        eventually(lambda: handled[Lane.NORMAL] == ["n1", "n2"], "and nothing was lost")
    taken = [e.number for e in rig.heard.events if isinstance(e, Configured) and e.taken and e.lane is Lane.NORMAL]
    assert taken == [1, 2, 3, 4], "shadow's mistake is no business of normal's"


def admits(worker: ss.Worker, lane: Lane, command: str) -> bool:
    cursor, _ = worker._running[lane]
    return cursor.gates.gate(command).enter(time.monotonic()).admitted


@pytest.fixture
def file(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "shadowstream.yaml"
    path.write_text(
        f"service: {request.node.name.split('[')[0][:60]}\nkafka: {{bootstrap.servers: 'h:1', group.id: g}}\n"
        f"fleet: {{url: '{redis_url}', lease: true, live: true}}\n"
        "rate_limit: {claim: {hard: 100/s, shadow_hard: 1000/s, shadow_burst: 1000}}\n"
    )
    return path


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    client.close()


class Process:
    """A shadow process: its gates, and who watches its configuration."""

    def __init__(self, settings: Settings) -> None:
        self.told: list[tuple[Lane, str, int, bool]] = []
        self.gates = Gates(settings.of(Lane.SHADOW), Listeners())
        self.watcher = Watcher(settings, {Lane.SHADOW: self._adopt}, lambda *told: self.told.append(told))

    def _adopt(self, settings: LaneSettings) -> None:
        self.gates.adopt(settings, time.monotonic())

    def begin(self) -> None:
        self.gates.hear(self.watcher.lay_over)
        self.admits()

    def admits(self) -> bool:
        with ss.entered(ss.Mark(run=RUN)):
            return self.gates.gate("claim").enter(time.monotonic()).admitted

    @property
    def limit(self) -> float | None:
        rule = self.gates._settings.rate("claim")
        return rule and rule.hard_per_s


@pytest.fixture
def process(file: Path) -> Iterator[Callable[[], Process]]:
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(ss.load(file)))
        return made[-1]

    yield make
    for each in made:
        each.gates.close()


@pytest.fixture
def limit(file: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["limit", *arguments, "--config", str(file)])
        told = capsys.readouterr()
        return code, (told.out or told.err).strip()

    return run


def armed(file: Path) -> None:
    fleet = ss.load(file).fleet
    assert fleet is not None
    Switch(fleet).arm(RUN, 60.0)


def test_a_limit_is_laid_over_in_every_process_within_a_second_and_removed_again(file, process, limit) -> None:
    armed(file)
    several = [process() for _ in range(3)]
    for each in several:
        each.begin()
        until(each.admits)
    assert limit("rate_limit", "claim", "hard", "50/s") == (0, "rate_limit claim hard: 1000/s -> 50/s")
    began = time.monotonic()
    until(lambda: all(each.limit == 50.0 for each in several))
    assert time.monotonic() - began < 1.0
    assert limit() == (0, "rate_limit claim hard: 50/s")
    assert limit("rate_limit", "claim", "--remove")[0] == 0
    until(lambda: all(each.limit == 1000.0 for each in several))
    assert limit() == (0, "nothing is laid over")


def test_a_process_that_begins_goes_by_what_is_laid_over_before_any_run_goes_on(file, process, limit) -> None:
    armed(file)
    assert limit("rate_limit", "claim", "hard", "0")[0] == 0
    one = process()
    one.admits()
    # Redis is heard, but nobody takes what is laid over yet: the file alone must not be gone by.
    until(lambda: one.gates._clerk.members)
    assert not one.admits()
    one.begin()
    until(lambda: one.limit == 0.0)
    assert not one.admits()


def test_a_change_of_the_file_leaves_what_is_laid_over_on_top(file, process, limit) -> None:
    armed(file)
    one = process()
    one.begin()
    assert limit("rate_limit", "claim", "hard", "50/s")[0] == 0
    until(lambda: one.limit == 50.0)
    file.write_text(file.read_text().replace("shadow_hard: 1000/s", "shadow_hard: 2000/s"))
    for _ in range(2):
        one.watcher.look()
    assert one.limit == 50.0
    assert limit("--clear")[0] == 0
    until(lambda: one.limit == 2000.0)


def test_what_is_wrong_in_redis_is_refused_and_the_last_good_one_kept(file, process, limit, redis_client) -> None:
    armed(file)
    one = process()
    one.begin()
    until(one.admits)
    place = f"{{{ss.load(file).service}.shadow}}:live"
    for version, document in enumerate(["no json", "[]", '{"shadow": {"rate_limit": {"claim": {"hard": "much"}}}}']):
        redis_client.hset(place, mapping={"version": str(version), "document": document})
        until(lambda seen=str(version): one.gates._clerk._seen_version == seen)
        assert one.limit == 1000.0
        assert one.admits()
    code, text = limit()
    assert code == 0
    assert "much" in text


def test_what_was_laid_over_and_is_lost_is_still_gone_by(file, process, limit, redis_client) -> None:
    armed(file)
    one = process()
    one.begin()
    assert limit("rate_limit", "claim", "hard", "50/s")[0] == 0
    until(lambda: one.limit == 50.0)
    redis_client.delete(f"{{{ss.load(file).service}.shadow}}:live")
    armed(file)
    beats = one.gates._clerk._heard_at
    until(lambda: one.gates._clerk._heard_at > beats + 1.0)
    assert one.limit == 50.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["kafka", "group.id", "x"], "cannot change while a test runs"),
        (["rate_limit", "claim", "50/s"], "takes SECTION NAME FIELD VALUE"),
        (["default_rate_limit", "a", "hard_rate_limit", "50/s"], "takes SECTION FIELD VALUE"),
        (["rate_limit", "claim", "hard", "much"], "much"),
        (["rate_limit", "claim", "hart", "5/s"], "hart"),
        (["rate_limit", "claim", "hard", "--remove"], "is not laid over"),
    ],
)
def test_what_cannot_be_laid_over_is_refused_with_the_cure(limit, words, told) -> None:
    code, text = limit(*words)
    assert code == 2
    assert told in text
    assert limit() == (0, "nothing is laid over")


def test_whoever_is_slower_changes_nothing(file, limit, monkeypatch, redis_client) -> None:
    from shadowstream.gate.fleet import layer

    assert limit("rate_limit", "claim", "hard", "50/s")[0] == 0
    read = layer.Layer.read
    monkeypatch.setattr(layer.Layer, "read", lambda self: ("before", read(self)[1]))
    code, text = limit("rate_limit", "claim", "hard", "60/s")
    assert code == 1
    assert "somebody else was faster" in text
    monkeypatch.undo()
    assert limit() == (0, "rate_limit claim hard: 50/s")


def test_without_a_place_that_is_listened_to_it_says_the_cure(file, limit) -> None:
    file.write_text(file.read_text().replace(", live: true", ""))
    code, text = limit()
    assert code == 2
    assert "live: true" in text


def test_what_is_in_force_is_explained_with_what_is_laid_over(file, limit, capsys) -> None:
    assert limit("rate_limit", "claim", "hard", "50/s")[0] == 0
    explain = ["config", "explain", "rate_limit", "claim hard", "--lane", "shadow", "--json", "--config", str(file)]
    told = []
    for more in ([], ["--live"]):
        assert main([*explain, *more]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [(each["value"], each["layer"]) for each in told] == [("1000/s", "file"), ("50/s", "live")]


def test_the_json_is_for_machines(limit) -> None:
    code, text = limit("default_rate_limit", "hard_rate_limit", "70/s", "--json")
    assert (code, json.loads(text)) == (
        0,
        {"changes": [{"key": "default_rate_limit hard_rate_limit", "before": None, "after": "70/s"}]},
    )
    told = json.loads(limit("--json")[1])
    assert told["laid_over"] == {"shadow": {"default_rate_limit": {"hard_rate_limit": "70/s"}}}
