"""What one decision costs: ``python -m benchmarks.gates [--json FILE]``, nanoseconds for each enter and leave."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from shadowstream.config.model import BreakerRule, GuardSettings, KeysRule, RateRule
from shadowstream.events import Listeners, Outcome
from shadowstream.gate import Gate, KeyedLimit, OpenGate, Rules, Stages, Verdict, folded
from shadowstream.gate.fleet import Stock
from shadowstream.gate.guard import Guard, Memo, Vitals
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main", "measured"]

REPEATS: Final = 9
DECISIONS: Final = 50_000
# Real gaps between messages, so that buckets drain and the clock moves as in service.
STEP_S: Final = 20e-6
PLENTY: Final = RateRule(soft_per_s=80_000.0, hard_per_s=100_000.0)
SCARCE: Final = RateRule(hard_per_s=1.0)
BREAKER: Final = BreakerRule(slow_call_s=0.5, max_concurrent=64)


def gate_of(rate: RateRule | None, breaker: BreakerRule | None) -> Gate:
    """Return a fresh gate over these rules."""
    return folded(Stages(Lane.SHADOW, "voucher.dispatch", Rules(rate, breaker), Listeners()), Verdict.WAIT)


def leased() -> Gate:
    """Return a gate whose rate is leased, with plenty of leases here."""
    stock = Stock("voucher.dispatch", 1e9, 1, lambda: None)
    stock.leased(10**9, 0.0, 1)
    rules = Rules(RateRule(hard_per_s=1e9, fleet=True), None, stock)
    return folded(Stages(Lane.SHADOW, "voucher.dispatch", rules, Listeners()), Verdict.WAIT)


def guarded() -> Gate:
    """Return the full chain of a shadow lane whose guard has opened."""
    memo = Memo()
    memo.write(Vitals(0.0))
    guard = Guard(GuardSettings(), memo, Listeners(), lambda: 0.0)
    guard.tick()
    stages = Stages(Lane.SHADOW, "voucher.dispatch", Rules(PLENTY, BREAKER), Listeners(), guard)
    return folded(stages, Verdict.WAIT)


def decision(gate: Gate, times: list[float]) -> int:
    """Return the nanoseconds that these enters took together."""
    enter = gate.enter
    started = perf_counter_ns()
    for now in times:
        enter(now)
    return perf_counter_ns() - started


def round_trip(gate: Gate, times: list[float]) -> int:
    """Return the nanoseconds that these enters and leaves took together."""
    enter, leave, handled = gate.enter, gate.leave, Outcome.HANDLED
    started = perf_counter_ns()
    for now in times:
        leave(enter(now), handled, now)
    return perf_counter_ns() - started


def keyed_trip(limit: KeyedLimit, times: list[float]) -> int:
    """Return the nanoseconds that these keyed decisions took together: two fields, 10 000 users."""
    values = [{"user_id": f"u{i % 10_000}", "promotion_id": f"p{i % 100}"} for i in range(len(times))]
    enter = limit.enter
    started = perf_counter_ns()
    for one, now in zip(values, times, strict=True):
        enter(one, now)
    return perf_counter_ns() - started


def measured() -> dict[str, object]:
    """Return the median nanoseconds for each decision, by kind of gate, with what they were measured on."""
    keys = KeysRule(keys=("user_id", "promotion_id"), hard_per_s=50_000.0)
    kinds: dict[str, Callable[[list[float]], int]] = {
        "open": lambda times: round_trip(OpenGate(), times),
        "rate": lambda times: round_trip(gate_of(PLENTY, None), times),
        "breaker": lambda times: round_trip(gate_of(None, BreakerRule(slow_call_s=0.5)), times),
        "chain": lambda times: round_trip(gate_of(PLENTY, BREAKER), times),
        "chain_refused_by_rate": lambda times: round_trip(gate_of(SCARCE, BREAKER), times),
        "chain_guarded": lambda times: round_trip(guarded(), times),
        "leased_enter": lambda times: decision(leased(), times),
        "keyed": lambda times: keyed_trip(KeyedLimit(keys), times),
    }
    times = [86_400.0 + i * STEP_S for i in range(DECISIONS)]
    rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
    # Kinds take turns, so that a busy moment of the machine falls on all of them.
    for _ in range(REPEATS):
        for kind, run in kinds.items():
            rounds[kind].append(run(times) / DECISIONS)
    return {
        "ns_per_decision": {kind: round(median(figures), 1) for kind, figures in rounds.items()},
        "repeats": REPEATS,
        "decisions": DECISIONS,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Print the figures, write them to ``--json`` when given, and return them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    chosen = parser.parse_args(arguments)
    figures = measured()
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if chosen.json is not None:
        chosen.json.write_text(text, encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
