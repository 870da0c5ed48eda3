"""(d) One decision of other limiters and breakers, in their own environment: nanoseconds each, as JSON.

Each is asked as its documentation shows, in memory, with a limit so high that it admits: what is paid by every message.
``python -m benchmarks.peers.limiters DECISIONS REPEATS``; they take turns, so that a busy moment falls on all.
"""

from __future__ import annotations

import asyncio
import json
import sys
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from pybreaker import CircuitBreaker
from pyrate_limiter import Duration, Limiter, Rate
from throttled import RateLimiterType, Throttled, rate_limiter, store

if TYPE_CHECKING:
    from collections.abc import Callable

PER_S = 1_000_000


def timed(decide: Callable[[], object], decisions: int) -> float:
    """Return the nanoseconds of one of these decisions."""
    started = perf_counter_ns()
    for _ in range(decisions):
        decide()
    return (perf_counter_ns() - started) / decisions


def of_limits(kind: type) -> Callable[[], object]:
    """Ask the library limits, by one of its strategies."""
    limiter, item = kind(MemoryStorage()), parse(f"{PER_S}/second")
    return lambda: limiter.hit(item, "voucher.dispatch")


def of_throttled() -> Callable[[], object]:
    """Ask throttled-py's GCRA, the same algorithm as ours."""
    throttle = Throttled(
        key="voucher.dispatch",
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_sec(PER_S, burst=PER_S),
        store=store.MemoryStore(),
    )
    return throttle.limit


def of_pyrate() -> Callable[[], object]:
    """Ask pyrate-limiter."""
    limiter = Limiter(Rate(PER_S, Duration.SECOND))
    return lambda: limiter.try_acquire("voucher.dispatch")


def of_pybreaker() -> Callable[[], object]:
    """Call nothing through pybreaker."""
    circuit = CircuitBreaker()
    return lambda: circuit.call(nothing)


def nothing() -> None:
    """Do no work."""


async def aio_timed(decisions: int) -> float:
    """Return the nanoseconds of one of aiolimiter's decisions, on a loop."""
    limiter = AsyncLimiter(PER_S, 1)
    started = perf_counter_ns()
    for _ in range(decisions):
        await limiter.acquire()
    return (perf_counter_ns() - started) / decisions


def main(decisions: int, repeats: int) -> None:
    """Measure all of them, and print the medians."""
    kinds: dict[str, Callable[[], float]] = {
        "limits, moving window": lambda: timed(of_limits(MovingWindowRateLimiter), decisions),
        "limits, sliding window": lambda: timed(of_limits(SlidingWindowCounterRateLimiter), decisions),
        "throttled-py, GCRA": lambda: timed(of_throttled(), decisions),
        "pyrate-limiter": lambda: timed(of_pyrate(), decisions),
        "aiolimiter": lambda: asyncio.run(aio_timed(decisions)),
        "pybreaker": lambda: timed(of_pybreaker(), decisions),
    }
    rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for kind, run in kinds.items():
            rounds[kind].append(run())
    sys.stdout.write(json.dumps({kind: round(median(each), 1) for kind, each in rounds.items()}) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
