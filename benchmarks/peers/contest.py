"""(e) (f) (g) Ours and the peers at the same task, side by side on one broker.

(e) drain: a handler that does nothing, on one partition of 200-byte messages, once without headers and once with two.
(f) io: one millisecond of waiting for each message, on one partition with a thousand keys in Zipf's distribution; in
order by key and in no order, with sync and with async handlers. Whoever has no concurrency of that kind handles them
one by one. By key, nobody can be faster than the hottest key: 1 / (its share x 1 ms), which is recorded beside.
(g) burn: 50 us of CPU for each message, in no order, so that whoever has processes may use them.

Every other side stands between two turns of ours, each in a fresh process and a fresh group: the ratio is the mean of
these two by it, and the control is ours by ours. A slow side stops after some seconds: it is a rate that is compared.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer

from benchmarks.figures import Row, hot_bound, interleaved, spread, zipf
from benchmarks.ground import CLIENT, FOREIGN, PAYLOAD, child, say
from benchmarks.peers.environments import Unavailable, interpreter
from benchmarks.peers.sides import OURS, Side, taking_part
from benchmarks.peers.task import ID, LOOK, SLEEP_S, Task

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.ground import Ground
    from benchmarks.options import Options

__all__ = ["Leg", "burn", "drain", "io"]

KEYS: Final = 1000
HEADED, BURN = "drain headed", "burn"
WANTED: Final = {
    (HEADED, "raw"): 0.9,
    (HEADED, "quixstreams"): 1.5,
    (HEADED, "faust"): 15.0,
    (HEADED, "faststream"): 30.0,
    (BURN, "raw"): 0.98,
}
"""Ours by theirs, at least, by leg and side."""
ASYNC_PER_S: Final = 10_000.0
"""Messages a second with a millisecond of waiting each, in no order, async handlers."""
CONCURRENT: Final = "sleep"


@dataclass(frozen=True, slots=True)
class Leg:
    """One task for all sides."""

    name: str
    topic: str
    messages: int
    work: str
    handler: str = "sync"
    order: str = "partition"
    limit_s: float = 8.0
    check: bool = True

    def wanted(self, side: str) -> float | None:
        """Return what our rate by this side's is to be, at least: with a millisecond of waiting ours is to be first."""
        return 1.0 if self.work == CONCURRENT else WANTED.get((self.name, side))

    def task(self, ground: Ground, side: Side, group: str) -> Task:
        """Return what one side is told."""
        concurrency = side.concurrency.get(self.handler, 1) if self.work == CONCURRENT else 1
        rule: dict[str, object] = {"order": self.order, "concurrency": concurrency}
        return Task(
            bootstrap=ground.broker.bootstrap,
            topic=self.topic,
            group=group,
            messages=self.messages,
            warm=max(self.messages // 20 // LOOK, 1) * LOOK,
            work=self.work,
            handler=self.handler,
            order=self.order,
            concurrency=concurrency,
            limit_s=self.limit_s,
            check=self.check,
            settings=str(ground.settings(group, self.topic, rule)) if side.name == OURS else "",
        )


def filled(ground: Ground, topic: str, count: int, *, headers: bool, exponent: float | None = None) -> dict[str, float]:
    """Write numbered messages, with keys if there is an exponent; returns the hottest key's share and its bound."""
    say(f"writing {count} messages to {topic}")
    client = Producer({"bootstrap.servers": ground.broker.bootstrap, **CLIENT})
    weights = zipf(KEYS, exponent or 0.0)
    numbers = random.Random(1).choices(range(KEYS), weights, k=count)
    ground.topic(topic)
    for number, key in enumerate(numbers):
        value = ID.pack(number) + PAYLOAD[ID.size :]
        name = b"key-%04d" % key if exponent is not None else None
        sent(client, topic, value, name, FOREIGN if headers else None)
    if client.flush(60) or (found := ground.count(topic)) != count:
        raise RuntimeError(f"topic {topic} holds {found} messages, not {count}")
    ((_, hottest),) = Counter(numbers).most_common(1)
    return {
        "exponent": exponent or 0.0,
        "hot_share": weights[0],
        "bound_per_s": hot_bound(weights[0], SLEEP_S),
        "hot_share_written": hottest / count,
    }


def sent(client: Producer, topic: str, value: bytes, key: bytes | None, headers: Any) -> None:  # noqa: ANN401
    """Produce one message, waiting while the queue is full."""
    for wait_s in itertools.chain([0.0], itertools.repeat(0.05)):
        client.poll(wait_s)
        with suppress(BufferError):
            client.produce(topic, value, key, headers=headers)
            return


def available(sides: list[Side]) -> tuple[dict[str, tuple[Side, Path]], dict[str, str]]:
    """Return the sides with their interpreters, and why others cannot take part."""
    ready, absent = {}, {}
    for side in sides:
        try:
            ready[side.name] = side, interpreter(side)
        except Unavailable as lacking:
            say(str(lacking))
            absent[side.name] = str(lacking)
    return ready, absent


def contested(ground: Ground, leg: Leg, options: Options, rounds: int) -> tuple[list[Row], dict[str, Any]]:
    """Let all sides do one task in turns; returns the rows and all reports."""
    ready, absent = available(taking_part(leg.work, leg.handler, options.sides))
    others = [name for name in ready if name != OURS]
    turns = [*(each for _ in range(rounds) for other in others for each in (OURS, other)), OURS]
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in ready}
    for number, name in enumerate(turns):
        side, python = ready[name]
        task = leg.task(ground, side, f"{leg.name}-{number}-{name}".replace(" ", "-"))
        reports[name].append(reported(side, python, task))
        say(f"{leg.name} {number + 1}/{len(turns)} {name}: {told(reports[name][-1])}")
    return rows(leg, reports, others), {"leg": asdict(leg), "absent": absent, "reports": reports}


def reported(side: Side, python: Path, task: Task) -> dict[str, Any]:
    """Return one side's report; a side that fails is noted, and the others go on."""
    try:
        return child(f"benchmarks.peers.{side.name}", json.dumps(asdict(task)), python=python)
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as failure:
        return {"failed": f"{type(failure).__name__}: {failure}"[:500], "messages": 0, "seconds": 1.0, "cpu_s": 1.0}


def told(report: dict[str, Any]) -> str:
    """Return one report as a line of progress."""
    if "failed" in report:
        return f"FAILED, {report['failed']}"
    rate, cpu = rates([report])[0], report["messages"] / max(report["cpu_s"], 1e-9)
    faults = report["repeats"] + report["missing"]
    return f"{rate:,.0f} messages/s, {cpu:,.0f} by CPU second{f', {faults} NOT EXACTLY ONCE' if faults else ''}"


def rates(reports: list[dict[str, Any]]) -> list[float]:
    """Return messages a second, 0 for a failure."""
    return [report["messages"] / report["seconds"] for report in reports]


def rows(leg: Leg, reports: dict[str, list[dict[str, Any]]], others: list[str]) -> list[Row]:
    """Return the rows of one leg: ratios first, then rates, then what went wrong."""
    ours, by_side = rates(reports[OURS]), {name: rates(reports[name]) for name in others}
    good = {name: found for name, found in by_side.items() if all(found)}
    found, control = interleaved(ours, by_side)
    everything = list(itertools.chain.from_iterable(reports.values()))
    failed = sum("failed" in report for report in everything)
    faults = sum(report.get("repeats", 0) + report.get("missing", 0) for report in everything)
    made = [Row.of(f"{leg.name}: ours / {name}", found[name], "ratio", leg.wanted(name)) for name in good]
    if control is not None:
        made.append(Row.noise(f"{leg.name}: ours / ours (noise)", control))
    fast = ASYNC_PER_S if (leg.work, leg.handler, leg.order) == (CONCURRENT, "async", "none") else None
    made.append(Row.of(f"{leg.name}: {OURS}", spread(ours), "msg/s", fast))
    made += [Row.of(f"{leg.name}: {name}", spread(each), "msg/s") for name, each in good.items()]
    made.append(Row(f"{leg.name}: turns that failed", failed, "turns", 0, "at most"))
    if leg.check:
        made.append(Row(f"{leg.name}: not exactly once", faults, "messages", 0, "at most"))
    return made


def measured(ground: Ground, legs: list[Leg], options: Options, rounds: int) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows and reports of some legs."""
    table: list[Row] = []
    details: dict[str, Any] = {"about": __doc__}
    for leg in legs:
        found, details[leg.name] = contested(ground, leg, options, options.turns(rounds))
        table += found
    return table, details


def drain(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Measure (e)."""
    count = options.messages(1_000_000, 20_000)
    filled(ground, "bare", count, headers=False)
    filled(ground, "headed", count, headers=True)
    # Looking at each number would cost a no-op handler a third of its rate: only the smoke does.
    legs = [Leg(f"drain {topic}", topic, count, "none", check=options.quick) for topic in ("bare", "headed")]
    try:
        return measured(ground, legs, options, 5)
    finally:
        ground.drop("bare")
        ground.drop("headed")


def io(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Measure (f)."""
    count, topic = options.messages(100_000, 2_000), "zipf"
    keys = filled(ground, topic, count, headers=True, exponent=options.zipf)
    legs = [
        Leg(f"io {handler} {order}", topic, count, CONCURRENT, handler, order)
        for handler in ("sync", "async")
        for order in ("key", "none")
    ]
    found, details = measured(ground, legs, options, 3)
    ground.drop(topic)
    bound = Row("io: bound of order by key", keys["bound_per_s"], "msg/s")
    return [bound, *found], {"keys": keys, **details}


def burn(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Measure (g)."""
    count, topic = options.messages(100_000, 4_000), "burnt"
    filled(ground, topic, count, headers=True, exponent=options.zipf)
    found = measured(ground, [Leg(BURN, topic, count, "burn", order="none")], options, 3)
    ground.drop(topic)
    return found
