"""Limits that many processes share, on a real Redis: how exactly, how fairly, and what happens when it fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from redis import BusyLoadingError, Redis

from containers.redis import RedisContainer
from shadowstream.config.model import FleetSettings, RateRule
from shadowstream.gate.fleet.clerk import SILENT_S
from tests.broker.members import Member
from tests.lanes import lane_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MEMBERS = 4
RATE = RateRule(hard_per_s=400.0, burst=40, fleet=True)
HELD = [2 * 0.1 * 400.0 / known for known in range(1, MEMBERS + 1)]
"""Messages that members hold at most, the batch of law 14: who comes first knows of nobody else yet."""

MEMBER = """
import json, sys, time
from shadowstream.config.model import FleetSettings, LaneSettings, RateRule, WorkerSettings
from shadowstream.events import Listeners
from shadowstream.gate import Gates
from shadowstream.lane import Lane

url, service, rate, burst, begin, seconds = sys.argv[1:3] + [float(each) for each in sys.argv[3:]]
rule = RateRule(hard_per_s=rate, burst=int(burst), fleet=True)
lane = LaneSettings(Lane.SHADOW, {}, {}, WorkerSettings(), rule, {}, {}, {}, {}, {}, FleetSettings(service, url))
gates = Gates(lane, Listeners())
gate, admitted = gates.gate("voucher.claim"), []
gate.enter(time.monotonic())
time.sleep(max(begin - time.monotonic(), 0.0))
while (now := time.monotonic()) < begin + seconds:
    ticket = gate.enter(now)
    if ticket.admitted:
        admitted.append(now)
    else:
        time.sleep(ticket.wait_s)
gates.close()
print(json.dumps(admitted))
"""


@pytest.fixture(scope="module")
def fleet_redis() -> Iterator[RedisContainer]:
    """A server that these tests may break, and heal again."""
    with RedisContainer() as server:
        yield server


@pytest.fixture
def redis_url(fleet_redis: RedisContainer) -> str:
    return fleet_redis.url


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    return request.node.name[:60]


def worst_excess(admitted: list[float], rate: float, burst: float) -> float:
    """Return by how many messages the fullest of all windows exceeds rate * w + burst."""
    worst, lowest = -burst, float("inf")
    for count, at in enumerate(sorted(admitted)):
        level = count - rate * at
        lowest = min(lowest, level)
        worst = max(worst, level - lowest + 1 - burst)
    return worst


def test_four_processes_share_a_limit_exactly_fairly_and_with_few_calls(server: Redis, redis_url: str) -> None:
    seconds, begin = 6.0, time.monotonic() + 3.0
    arguments = [redis_url, "four", "400", "40", str(begin), str(seconds)]
    with ExitStack() as stack:
        members = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", MEMBER, *arguments], stdout=subprocess.PIPE, text=True)
            )
            for _ in range(MEMBERS)
        ]
        time.sleep(max(begin - time.monotonic(), 0.0))
        server.config_resetstat()
        told = [json.loads(member.communicate(timeout=60)[0]) for member in members]
    counts = [len(each) for each in told]
    everything = [at for each in told for at in each]
    wanted = 400.0 * seconds
    assert worst_excess(everything, 400.0, 40) <= sum(HELD)
    assert sum(counts) >= 0.95 * wanted, counts
    assert max(counts) / min(counts) <= 1.2, counts
    stats: Any = server.info("commandstats")
    leases = sum(counts) / (0.1 * 400.0 / MEMBERS)
    signs_of_life = MEMBERS * (seconds / 0.5 + 1)
    assert stats["cmdstat_evalsha"]["calls"] <= 1.2 * leases + signs_of_life


class Asking(Member):
    """A process that takes what it gets."""

    def __init__(self, url: str, service: str) -> None:
        super().__init__(FleetSettings(service, url), RATE)
        self.admitted: list[float] = []
        self.gate.enter(time.monotonic())

    def ask(self, seconds: float) -> int:
        """Take all that is admitted for a while; return how much that was."""
        before, end = len(self.admitted), time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            ticket = self.gate.enter(now)
            if ticket.admitted:
                self.admitted.append(now)
            else:
                time.sleep(min(ticket.wait_s, 0.05))
        return len(self.admitted) - before


@pytest.fixture
def member(server: Redis, redis_url: str, service: str) -> Iterator[Callable[..., Asking]]:
    made: list[Asking] = []

    def make() -> Asking:
        made.append(Asking(redis_url, service))
        return made[-1]

    yield make
    for each in made:
        each.gates.close()


def asking_together(members: list[Asking], seconds: float) -> None:
    threads = [threading.Thread(target=each.ask, args=[seconds]) for each in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_thread_that_decides_never_talks_to_redis(
    member: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = member()
    call, askers = one.clerk._call, set()

    def asked(*what: Any, **more: Any) -> Any:
        askers.add(threading.current_thread().name)
        return call(*what, **more)

    monkeypatch.setattr(one.clerk, "_call", asked)
    assert one.ask(1.0) > 0
    assert askers == {"shadow-clerk"}


def test_a_shared_limit_that_is_raised_and_lowered_gives_no_burst_and_is_gone_by_at_once(
    member: Callable[..., Asking],
) -> None:
    one = member()
    until(lambda: one.ask(0.1) > 0)

    def went_by(rule: RateRule, seconds: float) -> int:
        # As long as it takes to fill what may pass at once, and more.
        time.sleep(0.5)
        one.gates.adopt(lane_of(default_rate=rule), time.monotonic())
        return one.ask(seconds)

    assert went_by(RateRule(hard_per_s=400.0, burst=4000, fleet=True), 0.2) <= 40 + 400 * 0.2 + HELD[0]
    assert went_by(RateRule(hard_per_s=50.0, burst=5, fleet=True), 2.0) <= 5 + 50 * 2.0 + HELD[0]
    assert went_by(RateRule(hard_per_s=0.0, fleet=True), 0.2) == 0
    assert went_by(RATE, 1.0) <= 400 * 1.0 + HELD[0]


def begin_loading(server: Redis) -> None:
    """Let the server read its data set anew, slowly, until it is healed; it answers nothing else meanwhile."""
    # Values that cannot be compressed: between them the server looks at what its clients want.
    server.mset({f"ballast:{number}": os.urandom(2048) for number in range(4000)})
    server.config_set("loading-process-events-interval-bytes", 1024)
    server.config_set("key-load-delay", 20_000)
    asking = server.connection_pool.make_connection()
    asking.connect()
    asking.send_command("DEBUG", "RELOAD")
    until(lambda: loading(server))


def loading(server: Redis) -> bool:
    try:
        server.ping()
    except BusyLoadingError:
        return True
    return False


def end_loading(server: Redis) -> None:
    server.config_set("key-load-delay", 0)
    until(lambda: not loading(server))
    server.delete(*server.keys("ballast:*"))


BREAKS: dict[str, tuple[Callable[[Redis], object], Callable[[Redis], object]]] = {
    "READONLY": (lambda server: server.replicaof("127.0.0.1", "1"), lambda server: server.replicaof("NO", "ONE")),
    "OOM": (lambda server: server.config_set("maxmemory", 1), lambda server: server.config_set("maxmemory", 0)),
    "LOADING": (begin_loading, end_loading),
    "slow": (lambda server: server.client_pause(60_000, all=False), lambda server: server.client_unpause()),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_whatever_redis_says_is_the_same_each_goes_by_its_share_and_comes_back(
    member: Callable[..., Asking], server: Redis, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "shadowstream.gate")
    members = [member() for _ in range(2)]
    until(lambda: all(each.clerk.members == 2 for each in members))
    asking_together(members, 0.5)
    fail, heal = BREAKS[kind]
    fail(server)
    try:
        until(lambda: all(each.clerk.away for each in members))
        asking_together(members, SILENT_S)
        alone = time.monotonic()
        asking_together(members, 2.0)
    finally:
        heal(server)
    for each in members:
        share = sum(at >= alone for at in each.admitted)
        assert 0.5 * 400 <= share <= 200 * 2.0 + 20 + 1, "half of the rate for two seconds"
    until(lambda: not any(each.clerk.away for each in members))
    back = time.monotonic()
    asking_together(members, 1.0)
    everything = [at for each in members for at in each.admitted]
    assert sum(at >= back for at in everything) >= 0.5 * 400
    assert worst_excess(everything, 400.0, 40) <= 2 * (2 * 0.1 * 200.0) + 40
    lines = [record.message.split()[0] for record in caplog.records]
    assert sorted(lines) == ["limits_not_shared"] * 2 + ["limits_shared_again"] * 2


def test_a_forgotten_script_is_loaded_again_and_nobody_notices(member: Callable[..., Asking], server: Redis) -> None:
    one = member()
    one.ask(0.3)
    server.script_flush()
    one.ask(0.5)
    assert one.ask(0.5) >= 0.5 * 200
    assert not one.clerk.away


def test_a_bucket_that_was_lost_begins_without_its_burst(member: Callable[..., Asking], server: Redis) -> None:
    one = member()
    for _ in range(10):
        one.ask(0.1)
        server.flushall()
    assert worst_excess(one.admitted, 400.0, 40) <= 2 * 0.1 * 400.0


def test_a_dead_redis_is_logged_once_and_not_on_every_try(
    own_redis: RedisContainer, caplog: pytest.LogCaptureFixture, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Asking(own_redis.url, service)
    try:
        until(lambda: one.clerk.members == 1)
        own_redis.kill()
        until(lambda: one.clerk.away)
        tries: list[str] = []
        call = one.clerk._call
        monkeypatch.setattr(one.clerk, "_call", lambda name, **more: tries.append(name) or call(name, **more))
        until(lambda: len(tries) >= 4)
        assert [record.message.split()[0] for record in caplog.records if "limits" in record.message] == [
            "limits_not_shared"
        ]
    finally:
        one.gates.close()


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(own_redis: RedisContainer, service: str) -> None:
    one = Asking(own_redis.url, service)
    try:
        until(lambda: one.clerk.members == 1)
        own_redis.pause()
        until(lambda: one.clerk.away)
        own_redis.unpause()
        until(lambda: not one.clerk.away)
    finally:
        one.gates.close()


def not_there(*_: Any, **__: Any) -> Any:
    raise ConnectionError("cut off")


def test_a_process_that_is_cut_off_waits_until_the_others_know(
    member: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [member() for _ in range(2)]
    until(lambda: all(each.clerk.members == 2 for each in members))
    asking_together(members, 0.5)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(members[0].clerk, "_call", not_there)
        asking_together(members, 2 * SILENT_S)
    asking_together(members, 1.0)
    everything = [at for each in members for at in each.admitted]
    assert worst_excess(everything, 400.0, 40) <= 2 * (2 * 0.1 * 200.0)


def test_whoever_never_heard_of_the_others_admits_nothing(service: str) -> None:
    one = Asking("redis://127.0.0.1:1/0", service)
    try:
        assert one.ask(SILENT_S + 0.5) == 0
    finally:
        one.gates.close()


def test_whoever_leaves_is_not_counted_any_more(member: Callable[..., Asking]) -> None:
    members = [member() for _ in range(2)]
    until(lambda: all(each.clerk.members == 2 for each in members))
    members[0].gates.close()
    until(lambda: members[1].clerk.members == 1)
