"""A request is shadow while its run has a lease, on a real Redis."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from shadowstream.gate.fleet import Switch
from shadowstream.propagate import Propagator
from shadowstream.propagate.carrier import Pairs
from tests.broker.rig import REPO
from tests.signals import ENVIRON, RUN, settings_of, signed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config import Settings


@pytest.fixture
def settings(tmp_path, redis_url: str, request: pytest.FixtureRequest) -> Settings:
    return settings_of(tmp_path, service=request.node.name[:60], fleet={"url": redis_url})


@pytest.fixture
def propagator(settings: Settings) -> Iterator[Propagator]:
    made = Propagator(settings)
    yield made
    made.close()


@pytest.fixture
def switch(settings: Settings) -> Switch:
    assert settings.fleet is not None
    return Switch(settings.fleet)


def refused(propagator: Propagator, run: str = RUN) -> str:
    return propagator.arrived(Pairs([("x-shadow", signed(run))]), "http").refused


def test_a_request_is_taken_from_arm_to_disarm(propagator: Propagator, switch: Switch) -> None:
    assert refused(propagator) == "no_lease"
    switch.arm(RUN, 60.0)
    until(lambda: not refused(propagator))
    assert refused(propagator, "another-run") == "no_lease"
    switch.disarm(RUN)
    until(lambda: refused(propagator) == "no_lease")


def test_a_kill_is_seen_by_web_processes_too(propagator: Propagator, switch: Switch) -> None:
    switch.arm(RUN, 60.0)
    until(lambda: not refused(propagator))
    killed = switch.kill()
    assert (killed.members, killed.silent) == (1, 0)
    assert refused(propagator) == "no_lease"


FORKED = """
import os, sys
import shadowstream as ss
from shadowstream.gate.fleet import Switch
from tests.broker.test_propagated_leases import refused
from tests.waiting import until

settings = ss.load(sys.argv[1])
propagator, switch = ss.Propagator(settings), Switch(settings.fleet)
switch.arm("armed-before", 60.0)
until(lambda: not refused(propagator, "armed-before"))
child = os.fork()
if child == 0:
    switch.arm("armed-later", 60.0)
    until(lambda: not refused(propagator, "armed-later"))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_hears_of_leases_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    assert settings.origin is not None
    # In a process of its own: this one has threads of other tests, which no fork survives.
    command = [sys.executable, "-c", FORKED, str(settings.origin.path)]
    assert subprocess.run(command, cwd=REPO, timeout=60, check=False).returncode == 0


def test_without_redis_no_request_is_shadow(settings: Settings, tmp_path) -> None:
    away = Propagator(settings_of(tmp_path, fleet={"url": "redis://127.0.0.1:1/0"}))
    assert refused(away) == "no_lease"
    assert away.arrived(Pairs([]), "http").mark is None
    away.close()
