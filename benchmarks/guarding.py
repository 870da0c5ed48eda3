"""(k) Normal's latency and what shadow may use when both call one downstream of fixed capacity, with and without guard.

A third of the downstream's capacity is normal's. After a while a shadow flood begins, more than three times what the
downstream bears. Without the guard shadow's calls fill the queue in front of it, and each normal call waits behind
them. With it (`guard: {p99: 50ms}`) shadow is to use at least 60 % of what normal leaves, and normal's p99, from the
moment a message was to be sent until it was handled, is to stay under the objective. The first two seconds of each part
are left out.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from benchmarks.capacity import PORT, read_calls, read_levels
from benchmarks.figures import Row, phase, quantile
from benchmarks.ground import say, started
from benchmarks.lanes import SECOND, read_samples
from benchmarks.latency import GRACE_S, greet, together, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.ground import Ground

__all__ = ["measured"]

CAPACITY: Final = 600
NORMAL: Final = 200
FLOOD: Final = 2000
OBJECTIVE_MS: Final = 50
CONCURRENCY: Final = 64
CALM_S: Final = 8.0
LEFT_OUT_S: Final = 2.0
OURS: Final = "benchmarks.capacity"
GUARD: Final = {"p99": f"{OBJECTIVE_MS}ms"}


def run(ground: Ground, name: str, seconds: float, guard: dict[str, Any] | None) -> dict[str, Any]:
    """Run one worker under the flood; returns its phases and what it did each second."""
    topic = ground.topic(name)
    sections = {} if guard is None else {"guard": guard}
    settings = ground.settings(name, topic, {"concurrency": CONCURRENCY, "order": "none"}, **sections)
    folder = ground.folder / f"run-{name}"
    folder.mkdir()
    greet(ground, settings, topic)
    with ExitStack() as stack:
        served = stack.enter_context(started(OURS, "downstream", settings, topic, folder, CAPACITY))
        wait_for(folder / PORT, served)
        with started(OURS, "worker", settings, topic, folder) as system:
            for lane in ("normal", "shadow"):
                wait_for(folder / f"{lane}-ready", system)
            begin, said = generated(settings, topic, folder, seconds)
            time.sleep(GRACE_S)
            ended = time.monotonic_ns()
    ground.drop(name)
    parts = {"calm": (LEFT_OUT_S, CALM_S), "flooded": (CALM_S + LEFT_OUT_S, CALM_S + seconds)}
    samples, calls = read_samples(folder), read_calls(folder)
    phases = {part: phase(samples, schedule(begin, *bounds), ended) for part, bounds in parts.items()}
    used = {part: per_s(calls["s"], begin, *bounds) for part, bounds in parts.items()}
    say(f"(k) {name}: p99 {phases['flooded'].p99_ms:.1f} ms, shadow {used['flooded']:.0f}/s")
    return {
        "phases": {part: asdict(each) for part, each in phases.items()},
        "shadow_per_s": used,
        "seconds": by_second(begin, CALM_S + seconds, samples, calls["s"], read_levels(folder)),
        **said,
    }


def generated(settings: Path, topic: str, folder: Path, seconds: float) -> tuple[int, dict[str, Any]]:
    """Send the load, and the flood after a while; returns when it began, and what they say of themselves."""
    roles = {"load": (0.0, CALM_S + seconds, NORMAL), "flood": (CALM_S, seconds, FLOOD)}
    return together(settings, topic, folder, roles)


def schedule(begin: int, from_s: float, to_s: float) -> range:
    """Return the intended send times of normal's messages in a part of the run."""
    step = SECOND // NORMAL
    return range(begin + step * int(NORMAL * from_s), begin + step * int(NORMAL * to_s), step)


def per_s(calls: list[int], begin: int, from_s: float, to_s: float) -> float:
    """Return how many calls a second there were in a part of the run."""
    lowest, highest = begin + from_s * SECOND, begin + to_s * SECOND
    return sum(lowest <= each < highest for each in calls) / (to_s - from_s)


def by_second(
    begin: int, seconds: float, samples: dict[int, int], shadow: list[int], levels: list[tuple[int, float]]
) -> list[dict[str, float]]:
    """Return normal's p99, shadow's calls and the guard's level in each second, for the picture."""
    told = []
    for at_s, next_s in pairwise(range(int(seconds) + 1)):
        waits = [(samples[each] - each) / 1e6 for each in schedule(begin, at_s, next_s) if each in samples]
        held = [level for at, level in levels if at < begin + next_s * SECOND]
        told.append(
            {
                "at_s": at_s,
                "normal_p99_ms": quantile(waits, 0.99) if waits else 0.0,
                "shadow_per_s": per_s(shadow, begin, at_s, next_s),
                "level": held[-1] if held else 1.0,
            }
        )
    return told


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the table, and everything measured."""
    seconds = 8.0 if quick else 40.0
    runs = {
        "without": run(ground, "guard-without", seconds, None),
        "with": run(ground, "guard-with", seconds, GUARD),
    }
    free = CAPACITY - NORMAL
    p99 = {name: each["phases"]["flooded"]["p99_ms"] for name, each in runs.items()}
    used = {name: each["shadow_per_s"]["flooded"] / free for name, each in runs.items()}
    rows = [
        Row("without guard: normal p99 under flood", p99["without"], "ms"),
        Row("without guard: broken at least", p99["without"], "ms", float(OBJECTIVE_MS)),
        Row("without guard: shadow's part of what is free", used["without"], "ratio"),
        Row("with guard: normal p99 under flood", p99["with"], "ms", float(OBJECTIVE_MS), "at most"),
        Row("with guard: shadow's part of what is free", used["with"], "ratio", 0.6),
        Row("normal p99 with no flood", runs["with"]["phases"]["calm"]["p99_ms"], "ms"),
    ]
    method = {
        "capacity_per_s": CAPACITY,
        "normal_per_s": NORMAL,
        "flood_per_s": FLOOD,
        "concurrency": CONCURRENCY,
        "guard": GUARD,
        "about": __doc__,
    }
    return rows, {"method": method, **runs}
