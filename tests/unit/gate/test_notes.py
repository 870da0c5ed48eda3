"""What a Guarded tells its hooks: each call and decision once, and what the gates look like."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

import shadowstream as ss
from shadowstream.config.model import BreakerRule, KeysRule, MarkSettings, RateRule, Settings
from shadowstream.events import Called, GateLevel, HotKeys, Outcome
from shadowstream.gate import Guarded
from shadowstream.lane import Lane
from shadowstream.metrics import PrometheusHook
from tests.lanes import lane_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shadowstream.events import Hook
    from tests.unit.gate.conftest import Ear

RATES = {"a": RateRule(hard_per_s=1.0, burst=2), "dry": RateRule(hard_per_s=0.0, dry_run=True)}


def made(hook: Hook | None, clock: Callable[[], float] = time.monotonic) -> Guarded:
    lane = lane_of(
        Lane.NORMAL,
        rates=RATES,
        breakers={"b": BreakerRule()},
        key_limits={"k": KeysRule(("user",), hard_per_s=1.0, hot_keys=1)},
    )
    return Guarded(Settings("s", MarkSettings(), lane, None), () if hook is None else [hook], clock=clock)


def called(ear: Ear) -> list[Called]:
    return [event for event in ear.heard if isinstance(event, Called)]


def test_each_call_and_each_refusal_is_told_once(ear: Ear) -> None:
    now = [100.0]
    guard = made(ear, lambda: now[0])
    for _ in range(5):
        with guard.asked("a"):
            now[0] += 0.001
    with pytest.raises(LookupError), guard("b"):
        raise LookupError
    with guard("dry"), guard("free"):
        now[0] += 0.5
    guard.close()
    told = {event.command: event for event in called(ear)}
    assert told["a"].outcomes == {Outcome.HANDLED: 2}
    assert told["a"].verdicts == {"admit": 2, "wait": 3}
    assert told["a"].seconds == pytest.approx((0.001, 0.001))
    assert (told["b"].outcomes, told["b"].verdicts) == ({Outcome.FAILED: 1}, {"admit": 1})
    assert told["dry"].verdicts == {"admit": 1, "dry_rate": 1}
    assert told["free"].seconds == pytest.approx((0.5,)), "a gate without rules has no clock of its own"
    assert len(told) == len(called(ear))
    assert {event.command for event in ear.heard if isinstance(event, GateLevel)} == {"a", "b", "dry"}


def test_hot_keys_of_calls_are_told_too(ear: Ear) -> None:
    guard = made(ear)
    for _ in range(4):
        with guard.asked("k", user=7):
            pass
    guard.close()
    (told,) = [event for event in ear.heard if isinstance(event, HotKeys)]
    assert told.keys == (("user", "7", 4),)


def test_a_refused_shadow_call_while_that_lane_is_off_has_no_gate_to_tell_of(ear: Ear) -> None:
    guard = made(ear)
    with ss.entered(ss.Mark(run="r")), pytest.raises(ss.RefusedError), guard("a"):
        pytest.fail("it was let in")
    guard.close()
    assert called(ear) == []


def test_the_last_call_before_a_silence_is_announced_too(ear: Ear) -> None:
    guard = made(ear)
    with guard("a"):
        pass
    until(lambda: called(ear))
    guard.close()


def test_without_hooks_nothing_is_noted_and_no_thread_begins() -> None:
    before = threading.active_count()
    guard = made(None)
    with guard("a"):
        pass
    assert threading.active_count() == before
    guard.close()


def test_no_call_is_lost_between_threads(ear: Ear) -> None:
    guard = made(ear)

    def work() -> None:
        for _ in range(500):
            with guard("free"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert guard._notes is not None
        guard._notes.announce()
    for thread in threads:
        thread.join()
    guard.close()
    outcomes, seconds = Counter[Outcome](), 0
    for event in called(ear):
        outcomes.update(event.outcomes)
        seconds += len(event.seconds)
    assert (outcomes, seconds) == ({Outcome.HANDLED: 4000}, 4000)


FORKED = """
import os, sys, time
import shadowstream as ss
heard = []
class Hook:
    def on(self, event): heard.append(type(event).__name__)
guard = ss.Guarded(ss.load(sys.argv[1]), [Hook()])
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
with guard("a"):
    pass
end = time.monotonic() + 20
while "Called" not in heard and time.monotonic() < end:
    time.sleep(0.01)
os._exit("Called" not in heard)
"""


def test_calls_are_announced_though_the_process_was_forked_before_the_first(tmp_path: Path) -> None:
    file = tmp_path / "shadowstream.yaml"
    file.write_text("service: s\nkafka: {bootstrap.servers: 'h:1', group.id: g}\n")
    assert subprocess.run([sys.executable, "-c", FORKED, str(file)], check=False, timeout=60).returncode == 0


def test_prometheus_shows_calls_decisions_and_times_by_lane_and_command() -> None:
    hook = PrometheusHook()
    guard = made(hook)
    with guard("b"):
        pass
    for _ in range(3):
        with guard.asked("a"):
            pass
    guard.close()
    text = generate_latest(hook.registry).decode()
    for line in (
        'shadowstream_calls_total{command="a",lane="normal",outcome="handled"} 2.0',
        'shadowstream_gate_decisions_total{command="a",lane="normal",verdict="wait"} 1.0',
        'shadowstream_handler_seconds_count{command="a",lane="normal"} 2.0',
        'shadowstream_breaker_state{command="b",lane="normal"} 0.0',
    ):
        assert line in text
