"""Runs are armed, disarmed and killed, on a real Redis and through a real worker."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

import shadowstream as ss
from shadowstream.cli import main
from shadowstream.config.model import FleetSettings
from shadowstream.errors import BrokerError
from shadowstream.gate.fleet import Clerk, Switch
from shadowstream.gate.fleet.runs import GOOD_S
from shadowstream.lane import Lane
from tests.broker.members import Member
from tests.broker.rig import eventually
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from containers.redis import RedisContainer
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = ss.Mark(run="r1")


class Running(Member):
    """A process that asks whether a run may go on."""

    def goes_on(self, run: str = "r1", later_s: float = 0.0) -> bool:
        with ss.entered(ss.Mark(run=run)):
            return self.gate.enter(time.monotonic() + later_s).admitted


@pytest.fixture
def fleet(redis_url: str, request: pytest.FixtureRequest) -> FleetSettings:
    return FleetSettings(request.node.name[:60], redis_url, lease=True)


@pytest.fixture
def member(fleet: FleetSettings) -> Iterator[Callable[[], Running]]:
    made: list[Running] = []

    def make() -> Running:
        made.append(Running(fleet))
        until(lambda: made[-1].clerk.members)
        return made[-1]

    yield make
    for each in made:
        each.gates.close()


def test_a_run_goes_on_from_arm_to_disarm_and_others_do_not(
    fleet: FleetSettings, member: Callable[[], Running]
) -> None:
    one, switch = member(), Switch(fleet)
    assert not one.goes_on()
    switch.arm("r1", 60.0)
    switch.arm("r2", 60.0)
    until(lambda: one.goes_on() and one.goes_on("r2"))
    assert not one.goes_on("r3")
    assert list(switch.armed()) == ["r1", "r2"]
    assert 50 < switch.armed()["r1"] <= 60
    assert switch.disarm("r1")
    until(lambda: not one.goes_on())
    assert one.goes_on("r2")
    assert not switch.disarm("r1")


def test_a_lease_ends_by_itself(fleet: FleetSettings, member: Callable[[], Running]) -> None:
    one, switch = member(), Switch(fleet)
    switch.arm("r1", 1.5)
    until(one.goes_on)
    until(lambda: not one.goes_on())
    assert switch.armed() == {}


def test_a_kill_is_seen_by_every_process_before_it_returns(fleet: FleetSettings, member: Callable[[], Running]) -> None:
    members, switch = [member() for _ in range(4)], Switch(fleet)
    switch.arm("r1", 60.0)
    until(lambda: all(each.goes_on() for each in members))
    killed = switch.kill()
    assert (killed.members, killed.silent) == (4, 0)
    assert not any(each.goes_on() for each in members)
    switch.arm("r1", 60.0)
    until(lambda: all(each.goes_on() for each in members))


def test_a_process_that_hears_nothing_is_counted_and_stops_by_itself(
    fleet: FleetSettings, member: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, other, switch = member(), member(), Switch(fleet)
    switch.arm("r1", 60.0)
    until(lambda: deaf.goes_on() and other.goes_on())

    def nothing(*_: object, **__: object) -> list[str]:
        raise ConnectionError("cut off")

    monkeypatch.setattr(deaf.clerk, "_call", nothing)
    until(lambda: deaf.clerk.away)
    killed = switch.kill()
    assert (killed.members, killed.silent) == (2, 1)
    assert not other.goes_on()
    assert not deaf.goes_on(later_s=GOOD_S)


def test_without_redis_every_run_stops_by_itself(own_redis: RedisContainer) -> None:
    fleet = FleetSettings("gone", own_redis.url, lease=True)
    one, switch = Running(fleet), Switch(fleet)
    try:
        switch.arm("r1", 60.0)
        until(one.goes_on)
        own_redis.kill()
        until(lambda: one.clerk.away)
        assert not one.goes_on(later_s=GOOD_S)
        with pytest.raises(BrokerError, match="every shadow process stops by itself"):
            switch.kill()
    finally:
        one.gates.close()


def test_a_guard_that_is_latched_is_released_by_arming_the_run_anew_and_by_nothing_else(fleet: FleetSettings) -> None:
    released: list[float] = []
    clerk, switch = Clerk(Lane.SHADOW, fleet, armed=lambda: released.append(time.monotonic())), Switch(fleet)
    try:
        switch.arm("r1", 60.0)
        until(lambda: len(released) == 1)
        heard = clerk._heard_at
        until(lambda: clerk._heard_at > heard + 1.5)
        assert len(released) == 1
        switch.arm("r1", 90.0)
        until(lambda: len(released) == 2)
    finally:
        clerk.end()


def test_messages_wait_until_their_run_is_armed_and_again_once_it_is_killed(rig: Rig, redis_url: str) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings({topic: {}}, fleet={"url": redis_url, "lease": True})
    assert settings.fleet is not None
    worker, switch = rig.worker(settings), Switch(settings.fleet)
    handled: dict[Lane, list[str]] = {lane: [] for lane in Lane}

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        handled[message.lane].append((message.value() or b"").decode())

    marked = [("x-shadow", b"1;run=r1")]
    rig.send(topic, ["s1", "s2"], marked)
    rig.send(topic, ["n1"])
    with worker:
        eventually(lambda: handled[Lane.NORMAL] == ["n1"], "normal asks nobody")
        assert handled[Lane.SHADOW] == []
        switch.arm("r1", 60.0)
        eventually(lambda: handled[Lane.SHADOW] == ["s1", "s2"], "armed")
        assert switch.kill().silent == 0
        rig.send(topic, ["s3"], marked)
        rig.send(topic, ["n2"])
        eventually(lambda: handled[Lane.NORMAL] == ["n1", "n2"], "normal goes on")
        assert handled[Lane.SHADOW] == ["s1", "s2"]
        switch.arm("r1", 60.0)
        eventually(lambda: handled[Lane.SHADOW] == ["s1", "s2", "s3"], "armed again, and nothing is lost")


def test_the_commands_say_what_they_did_and_exit_by_it(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shadowstream.yaml"
    file.write_text(
        f"service: commands\nkafka: {{bootstrap.servers: 'h:1', group.id: g}}\nfleet: {{url: '{redis_url}'}}\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--config", str(file)])
        return code, capsys.readouterr().out.strip()

    assert run("runs") == (1, "")
    assert run("arm", "fcst-1", "--for", "2h") == (0, "fcst-1 may go on for 7200 s")
    code, text = run("runs", "--json")
    assert (code, list(json.loads(text))) == (0, ["fcst-1"])
    assert run("disarm", "fcst-1") == (0, "fcst-1 is disarmed")
    assert run("disarm", "fcst-1") == (1, "fcst-1 has no lease")
    code, text = run("kill", "--json")
    assert (code, json.loads(text)["members"]) == (0, 0)
    assert run("kill")[1].startswith("killed: 0 of 0 processes have seen it")


def test_without_a_place_or_without_redis_the_commands_say_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shadowstream.yaml"
    enough = "service: commands\nkafka: {bootstrap.servers: 'h:1', group.id: g}\n"
    file.write_text(enough)
    assert main(["kill", "--config", str(file)]) == 2
    assert "add `fleet:" in capsys.readouterr().err
    file.write_text(f"{enough}fleet: {{url: 'redis://127.0.0.1:1/0'}}\n")
    assert main(["kill", "--config", str(file)]) == 3
    assert "Redis does not answer" in capsys.readouterr().err
