"""The voucher chain as people run it: HTTP, four services, Kafka and Redis, the same vouchers in both lanes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
import redis

from containers.owned import free_port
from shadowstream.fcst.demo.setup import shared_environment
from shadowstream.fcst.services import SERVICES, Services
from shadowstream.fcst.topics import CHAIN, RunTopics
from shadowstream.headers import Kind, MarkReader
from shadowstream.lane import Lane
from tests.broker.rig import REPO, eventually, headers_of
from tests.broker.service import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

VOUCHERS = [f"v{number}" for number in range(60)]
MARK = "1;run=fcst-1111"
ONE_IN = {Lane.NORMAL: 10, Lane.SHADOW: 5}
"""Which share of vouchers ss_business cancels, as its own YAML says by lane."""


class Running:
    """The chain with everything around it."""

    def __init__(self, rig: Rig, redis_url: str, prefix: str) -> None:
        self.topics = RunTopics(rig.bootstrap, f"{prefix}.")
        self.topics.create()
        self.port = free_port()
        self._folder = rig.folder
        self._sinks = {
            "SHADOWSTREAM__DATA__REDIS__URL": redis_url,
            "SHADOWSTREAM__DATA__SHADOW.REDIS__URL": redis_url,
            "SHADOWSTREAM__DATA__REDIS__PREFIX": f"{prefix}:",
            "SHADOWSTREAM__DATA__SHADOW.REDIS__PREFIX": f"shadow:{prefix}:",
        }
        self._services = Services(rig.folder)
        self._claimer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        told = {name: self._told("consumers", name) | self._sinks for name in SERVICES}
        self._services.start(REPO, told)
        command = [sys.executable, "-m", "producers.ss_distribution", "--port", str(self.port)]
        claimer = surroundings() | self._told("producers", "ss_distribution")
        self._claimer = subprocess.Popen(command, cwd=REPO, env=claimer)
        return self

    def is_up(self) -> Self:
        """Wait until all of it is."""
        eventually(lambda: self._services.numbers().assigned == {(n, lane) for n in SERVICES for lane in Lane}, "ready")
        eventually(self._answers, "ss_distribution answers")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._claimer is not None
        self._claimer.terminate()
        self._claimer.wait(20)
        self._services.stop()
        # Shown by pytest when the test fails.
        print(self._services.last_words())  # noqa: T201

    def claim(self, voucher_id: str, **headers: str) -> int:
        """Claim one voucher over HTTP; return the status."""
        body = json.dumps({"voucher_id": voucher_id, "user_id": "u1", "promotion_id": "p1"}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/claim", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def outcomes(self, lane: Lane) -> list[dict[str, int]]:
        """Return how one lane's messages ended, topic by topic."""
        numbers = self._services.numbers()
        return [numbers.outcomes_of(topic, lane) for topic in self.topics.chain]

    def _told(self, kind: str, name: str) -> dict[str, str]:
        return shared_environment(REPO / kind / name / "shadowstream.yaml", name, self.topics)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False


@pytest.fixture
def chain(rig: Rig, redis_url: str) -> Iterator[Running]:
    with Running(rig, redis_url, rig.group) as running:
        yield running.is_up()


def ways(lane: Lane) -> dict[str, str]:
    """Return how each voucher is to end in a lane."""
    return {each: "cancelled" if crc32(each.encode()) % ONE_IN[lane] == 0 else "settled" for each in VOUCHERS}


def arrived(rig: Rig, topic: str) -> dict[Lane, list[str]]:
    """Return the vouchers that came to a topic, by the lane that their mark names, with every mark read."""
    lanes: dict[Lane, list[str]] = {lane: [] for lane in Lane}
    for message in rig.read(topic):
        reading = MarkReader().read(headers_of(message), rig.started_at)
        if reading.kind is Kind.SHADOW:
            assert reading.mark is not None
            assert (reading.mark.run, reading.mark.hop) == ("fcst-1111", 4)
        else:
            assert headers_of(message) == []
        lane = Lane.SHADOW if reading.kind is Kind.SHADOW else Lane.NORMAL
        lanes[lane].append(json.loads(message.value() or b"")["voucher_id"])
    return lanes


def test_the_same_vouchers_go_through_both_lanes_at_once_and_neither_sees_the_others_data(
    rig: Rig, chain: Running, redis_url: str
) -> None:
    for voucher in VOUCHERS:
        assert chain.claim(voucher) == 202
        assert chain.claim(voucher, **{"x-shadow": MARK}) == 202
    assert chain.claim("evil", **{"x-shadow": "9;run=fcst-1111"}) == 400

    everything = [{"handled": len(VOUCHERS)}] * len(CHAIN)
    eventually(lambda: all(chain.outcomes(lane) == everything for lane in Lane), "each voucher handled in each service")
    for name, topic in zip(SERVICES, chain.topics.chain, strict=True):
        group = f"{chain.topics.prefix}{name}"
        ends = {partition: end for partition, end in rig.ends(topic).items() if end}
        for each in (group, f"{group}.shadow"):
            eventually(
                lambda each=each, topic=topic, ends=ends: rig.committed(each, topic) == ends, f"{each} caught up"
            )

    settled, cancelled = (arrived(rig, topic) for topic in chain.topics.ends)
    for lane in Lane:
        assert sorted(settled[lane]) == sorted(each for each, way in ways(lane).items() if way == "settled")
        assert sorted(cancelled[lane]) == sorted(each for each, way in ways(lane).items() if way == "cancelled")
        assert kept(redis_url, f"{rig.group}:" if lane is Lane.NORMAL else f"shadow:{rig.group}:") == {
            each: {"dispatched": "dispatched", "used": "used", "closed": way} for each, way in ways(lane).items()
        }
    assert ways(Lane.NORMAL) != ways(Lane.SHADOW), "the lanes' task settings differ, or this showed nothing"
    for topic in chain.topics.sides:
        assert sum(rig.ends(topic).values()) == 0, topic


def kept(redis_url: str, prefix: str) -> dict[str, dict[str, str]]:
    """Return what Redis knows of each voucher under a prefix."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys: Any = client.keys(f"{prefix}voucher:*")
        return {key.rpartition(":")[2]: client.hgetall(key) for key in keys}


@pytest.mark.parametrize("where", ["embedded", "real"])
def test_the_demo_ends_with_a_verdict_on_the_embedded_and_on_a_real_broker(
    rig: Rig, tmp_path: Path, where: str
) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "shadowstream", "demo", "--seconds", "15", "--json", str(figures)]
    if where == "real":
        command += ["--bootstrap", rig.bootstrap]
    before = set(rig.admin.list_topics(timeout=10).topics)

    ended = subprocess.run(
        command, cwd=REPO, env=surroundings(), capture_output=True, text=True, timeout=110, check=False
    )

    assert ended.returncode in {0, 1}, ended.stderr
    found = json.loads(figures.read_text())
    broken = [law["law"] for law in found["laws"] if not law["ok"]]
    assert (ended.returncode == 0) is found["ok"] is (not broken)
    # How long things took is a busy machine's business; what happened to each message is not.
    assert set(broken) <= {"real users did not feel it"}, ended.stdout
    assert "laws broken; it took" in ended.stdout
    sent = {each["lane"]: each for each in found["figures"]["sent"]}
    assert sent["normal"]["sent"] == sent["normal"]["handled"] > 500
    assert sent["shadow"]["sent"] == sent["shadow"]["handled"] > 2000
    if where == "real" and not broken:
        left = set(rig.admin.list_topics(timeout=10).topics) - before
        assert not [topic for topic in left if topic.startswith("demo-")]
