from __future__ import annotations

import asyncio
import json
import platform
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.ground import ROOT, child
from benchmarks.peers.contest import Leg, rows, told
from benchmarks.peers.environments import LOCKS, Unavailable, interpreter, key
from benchmarks.peers.sides import OURS, SIDES, Side, taking_part
from benchmarks.peers.task import ID, Report, Stopwatch, Task, asynchronous, synchronous

TASK = Task("broker", "topic", "group", messages=200, warm=64, check=True)


def handled(task: Task, numbers: list[int]) -> tuple[Report, int]:
    ends: list[int] = []
    watch = Stopwatch(task, lambda: ends.append(1))
    tick = watch.ticker()
    for number in numbers:
        tick(ID.pack(number))
    return watch.report(), len(ends)


def test_the_warm_up_is_not_counted_and_the_end_is_told_once() -> None:
    report, ends = handled(TASK, list(range(200)))
    assert (report.messages, report.complete, ends) == (135, True, 1)
    assert (report.repeats, report.missing) == (0, 0)
    assert report.seconds > 0


def test_a_message_handled_twice_and_one_never_handled_are_seen() -> None:
    report, _ = handled(TASK, [0, *range(199)])
    assert (report.repeats, report.missing) == (1, 1)


def test_a_side_that_was_stopped_early_lacks_nothing() -> None:
    report, ends = handled(replace(TASK, limit_s=0.0), list(range(150)))
    assert (report.messages, report.complete, report.missing, ends) == (64, False, 0, 1)


def test_unchecked_payloads_are_not_looked_at() -> None:
    watch = Stopwatch(replace(TASK, check=False), lambda: None)
    tick = watch.ticker()
    for _ in range(200):
        tick(None)
    assert watch.report().complete


def test_threads_are_counted_together() -> None:
    task = replace(TASK, messages=40_000)
    over = threading.Event()
    watch = Stopwatch(task, over.set)
    tick = watch.ticker()
    shares = [range(first, 40_000, 4) for first in range(4)]
    threads = [threading.Thread(target=lambda share=share: [tick(ID.pack(each)) for each in share]) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over.is_set()
    assert (watch.report().repeats, watch.report().missing) == (0, 0)


def test_a_consumer_that_ends_too_early_has_no_report() -> None:
    with pytest.raises(RuntimeError, match="before it had handled"):
        handled(TASK, [1, 2, 3])


@pytest.mark.parametrize("warm", [1, 65, 256])
def test_a_warm_up_that_the_clock_would_miss_is_refused(warm: int) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        replace(TASK, warm=warm)


@pytest.mark.parametrize("work", ["none", "sleep", "burn"])
def test_the_tick_comes_after_the_work_with_either_handler(work: str) -> None:
    ticks: list[bytes | None] = []
    task = replace(TASK, work=work)
    synchronous(task, ticks.append)(b"one")
    asyncio.run(asynchronous(task, ticks.append)(b"two"))
    assert ticks == [b"one", b"two"]


def test_every_peer_has_a_program_and_a_lock_of_hashes() -> None:
    for side in SIDES.values():
        assert (ROOT / "benchmarks" / "peers" / f"{side.name}.py").exists()
        lock = LOCKS / f"{side.environment or side.name}.lock"
        assert lock.exists() == (side.environment is not None)
        if lock.exists():
            text = lock.read_text()
            assert text.count("==") <= text.count("--hash=sha256:")
            assert lock.with_suffix(".in").exists()


def test_only_those_who_can_wait_that_way_take_part_in_waiting() -> None:
    assert [side.name for side in taking_part("none", "sync")] == list(SIDES)
    assert {"aiokafka", "faust"}.isdisjoint(side.name for side in taking_part("sleep", "sync"))
    assert {"raw", "arroyo", "quixstreams"}.isdisjoint(side.name for side in taking_part("sleep", "async"))
    assert [side.name for side in taking_part("burn", "sync", ("faust",))] == [OURS, "faust"]


def test_another_lock_or_another_python_is_another_environment(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1")
    first = key(lock, "3.11.7")
    assert key(lock, "3.11.7") == first
    assert key(lock, "3.12.1") != first
    lock.write_text("a==2")
    assert key(lock, "3.11.7") != first


def test_a_side_without_a_lock_runs_in_this_environment() -> None:
    assert interpreter(SIDES["raw"]) == Path(sys.executable)


def test_a_python_that_is_not_there_is_named_with_the_cure() -> None:
    with pytest.raises(Unavailable, match=r"needs Python 9\.9.*--sides"):
        interpreter(Side("dreamt", frozenset({"sync"}), python="9.9"))


def report(messages: int, repeats: int = 0) -> dict[str, object]:
    return asdict(Report(messages, 1.0, 0.5, complete=True, repeats=repeats))


def test_a_failed_side_has_no_ratio_and_is_counted() -> None:
    failed = {"failed": "RuntimeError", "messages": 0, "seconds": 1.0, "cpu_s": 1.0}
    reports = {OURS: [report(100), report(200), report(300)], "raw": [report(50, repeats=2)], "faust": [failed]}
    table = {row.name: row for row in rows(Leg("drain", "t", 400, "none"), reports, ["raw", "faust"])}
    assert table["drain: ours / raw"].value == pytest.approx(3.0)
    assert "drain: ours / faust" not in table
    assert (table["drain: turns that failed"].value, table["drain: turns that failed"].reached) == (1, False)
    assert (table["drain: not exactly once"].value, table["drain: not exactly once"].reached) == (2, False)
    assert told(failed).startswith("FAILED")
    assert "NOT EXACTLY ONCE" in told(report(50, repeats=2))


def test_a_programs_report_is_its_last_line_whatever_a_library_wrote_before() -> None:
    found = child("tests.unit.benchmarks.reporting", json.dumps(asdict(TASK)))
    assert found["messages"] == 135
    assert found["python"] == platform.python_version()
    assert set(found["clients"]) == {"confluent-kafka"}
