"""(c) How long normal messages take while a shadow flood meets a stuck shadow handler, on one partition.

500 normal messages a second all the time; in the middle third of each run, k times as many shadow messages. The
worker runs both lanes, a process each, and its shadow handler hangs on the first message it gets. Each run compares
its flooded third (B) with the thirds before and after it (A1, A2); the first two seconds of each third are left out
(half a second with --quick). The flooded p99 by the mean p99 of A1 and A2 is the figure; A2 / A1 is how much the
machine drifts with no flood at all, and the runs with k = 0 show what the method makes of nothing.

Beside it, the same load and flood on a plain consumer that handles both kinds behind one limiter of 1500 a second. It
has no A2: what the flood left in front of the normal messages would still be there. A normal message it has not handled
by the end counts with the time it had waited so far, so its figures are too low rather than too high.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import shadowstream as ss
from benchmarks.figures import Row, flood_ratio, phase, spread
from benchmarks.ground import outcome, say, started
from benchmarks.lanes import RUN, SECOND, STAMP, announced, read_samples

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from benchmarks.ground import Ground

__all__ = ["Plan", "System", "measured", "run", "summary", "together", "wait_for"]

MODULE: Final = "benchmarks.lanes"
RATE: Final = 500
HEADSTART_S: Final = 0.5
"""From telling the generators when to begin until they do."""
GRACE_S: Final = 1.0
"""For the last messages to arrive."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how long its thirds are and how much is sent."""

    times: int
    """Shadow messages for each normal one."""
    third_s: float
    settle_s: float
    thirds: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        """Return what the thirds are called."""
        return ("A1", "B", "A2")[: self.thirds]

    def schedule(self, begin: int, third: int) -> range:
        """Return the intended send times of one third that count."""
        step = SECOND // RATE
        first = begin + step * int(RATE * (third * self.third_s + self.settle_s))
        return range(first, begin + step * int(RATE * (third + 1) * self.third_s), step)


@dataclass(frozen=True, slots=True)
class System:
    """Who handles the messages."""

    role: str
    module: str = MODULE
    has_lanes: bool = True
    """Whether its shadow lane says that it is ready."""
    rule: dict[str, object] | None = None
    """The topic's rule in the configuration."""


WORKER: Final = System("worker")
PLAIN: Final = System("plain", has_lanes=False)


def run(ground: Ground, who: System, plan: Plan, name: str) -> dict[str, Any]:
    """Run one system under one plan on a topic of its own; returns its phases and what the generators say."""
    topics = [ground.topic(each) for each in (name, f"shadow.{name}")]
    settings = ground.settings(name, name, who.rule)
    folder = ground.folder / f"run-{name}"
    folder.mkdir()
    greet(ground, settings, name)
    with started(who.module, who.role, settings, name, folder) as system:
        wait_for(folder / "normal-ready", system)
        if who.has_lanes:
            wait_for(folder / "shadow-ready", system)
        begin, generators = generated(settings, plan, name, folder)
        time.sleep(GRACE_S)
        ended = time.monotonic_ns()
    samples = read_samples(folder)
    for topic in topics:
        ground.drop(topic)
    phases = {third: phase(samples, plan.schedule(begin, n), ended) for n, third in enumerate(plan.names)}
    say(f"{name}: " + ", ".join(f"{third} p99 {each.p99_ms:.1f} ms" for third, each in phases.items()))
    deaths = max(len(list(folder.glob("samples-*"))) - 1, 0)
    return {
        "times": plan.times,
        "deaths": deaths,
        "phases": {third: asdict(each) for third, each in phases.items()},
        **generators,
    }


def greet(ground: Ground, settings: Path, topic: str) -> None:
    """Put one message of each lane at the beginning, so that both lanes can say that they run."""
    client = ss.Producer(ground.load(settings))
    client.produce(topic, STAMP.pack(0))
    with ss.entered(RUN):
        client.produce(topic, STAMP.pack(0))
    client.flush(15)


def wait_for(path: Path, system: subprocess.Popen[str], seconds: float = 30.0) -> None:
    """Wait until the system has made this file.

    Raises:
        RuntimeError: it ended, or did not come that far in time.
    """
    until = time.monotonic() + seconds
    while not path.exists():
        if system.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{system.args!r} is not ready ({path.name}), exit code {system.poll()}; see above")
        time.sleep(0.02)


def generated(settings: Path, plan: Plan, topic: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the load, and the flood over the second third; returns when it began, and what they say of themselves."""
    third = plan.third_s
    roles = {"load": (0.0, third * plan.thirds, RATE), "flood": (third, third, RATE * plan.times)}
    if not plan.times:
        del roles["flood"]
    return together(settings, topic, folder, roles)


def together(
    settings: Path, topic: str, folder: Path, roles: dict[str, tuple[float, float, int]]
) -> tuple[int, dict[str, Any]]:
    """Run generators from one moment on, each after so long, for so long, at so many a second; returns the same."""
    with ExitStack() as stack:
        running = {
            role: stack.enter_context(started(MODULE, role, settings, topic, folder, *what, capture=True))
            for role, what in roles.items()
        }
        for role, process in running.items():
            wait_for(folder / f"{role}-ready", process)
        begin = time.monotonic_ns() + int(HEADSTART_S * SECOND)
        announced(folder, begin)
        return begin, {role: outcome(process) for role, process in running.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the middle of several runs of one level."""
    p99 = [[run["phases"][third]["p99_ms"] for third in ("A1", "B", "A2")] for run in runs]
    ratios = [flood_ratio(*each) for each in p99]
    return {
        "times": runs[0]["times"],
        "ratio": spread([ratio for ratio, _ in ratios]),
        "drift": spread([drift for _, drift in ratios]),
        "free_p99_ms": spread([each for before, _, after in p99 for each in (before, after)]),
        "p50_ms": spread([run["phases"]["B"]["p50_ms"] for run in runs]),
        "p99_ms": spread([during for _, during, _ in p99]),
        "flood_per_s": spread([run.get("flood", {}).get("per_s", 0.0) for run in runs]),
        "deaths": sum(run["deaths"] for run in runs),
        "missing": sum(each["missing"] for run in runs for each in run["phases"].values()),
    }


def level_rows(level: dict[str, Any]) -> list[Row]:
    """Return the rows of one level; fifty times is the one with a target."""
    times = level["times"]
    wanted = 1.2 if times == 50 else None
    rows = [
        Row.of(f"{times}x p99 flood / flood-free", level["ratio"], "ratio", wanted, at_most=True),
        Row.noise(f"{times}x p99 flood-free after / before", level["drift"]),
        Row.of(f"{times}x p50 flood", level["p50_ms"], "ms"),
        Row.of(f"{times}x p99 flood", level["p99_ms"], "ms"),
        Row.of(f"{times}x p99 flood-free", level["free_p99_ms"], "ms"),
    ]
    rows.append(Row(f"{times}x normal lane died", level["deaths"], "times", 0, "at most"))
    if times:
        rows.append(Row.of(f"{times}x shadow sent, of {times * RATE:,}", level["flood_per_s"], "msg/s"))
        rows.append(Row(f"{times}x normal not handled", level["missing"], "messages", 0, "at most"))
    return rows


def plain_rows(runs: list[dict[str, Any]]) -> list[Row]:
    """Return the rows of the plain consumer, which has no target: it is what shadowstream repairs."""
    rows = []
    for times, flooded in ((run["times"], run["phases"]["B"]) for run in runs):
        rows.append(Row(f"plain consumer: {times}x p99", flooded["p99_ms"], "ms"))
        rows.append(Row(f"plain consumer: {times}x not handled", flooded["missing"], f"of {flooded['count']}"))
    return rows


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the rows of the table, and everything measured."""
    third_s, settle_s = (3.0, 0.5) if quick else (14.0, 2.0)
    repeats = {10: 1, 50: 1} if quick else {0: 1, 1: 1, 10: 1, 50: 5}
    worker: dict[int, list[dict[str, Any]]] = {times: [] for times in repeats}
    for turn in range(max(repeats.values())):
        for times in (times for times, wanted in repeats.items() if turn < wanted):
            plan = Plan(times, third_s, settle_s)
            worker[times].append(run(ground, WORKER, plan, f"worker-{times}x-{turn}"))
    plain = [run(ground, PLAIN, Plan(times, third_s / 2, settle_s / 2, 2), f"plain-{times}x") for times in repeats]
    levels = [summary(runs) for runs in worker.values()]
    rows = [row for level in levels for row in level_rows(level)] + plain_rows(plain)
    method = {
        "normal_per_s": RATE,
        "third_s": third_s,
        "left_out_s": settle_s,
        "repeats": {str(times): count for times, count in repeats.items()},
        "about": __doc__,
    }
    return rows, {"method": method, "worker": worker, "plain": plain}
