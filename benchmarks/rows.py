"""The rows that can be chosen: a letter, a name, what it shows, and who measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks import agents, gates, guarding, latency, memory, produce, rebalance, repeats, throughput
from benchmarks.figures import Row
from benchmarks.ground import child, say
from benchmarks.peers import contest
from benchmarks.peers.environments import interpreter
from benchmarks.peers.sides import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.ground import Ground
    from benchmarks.options import Options

    Measured = tuple[list[Row], dict[str, Any]]

__all__ = ["ROWS", "Part", "described"]


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark."""

    name: str
    about: str
    measured: Callable[[Any, Options], Measured]


LIMITERS: Final = Side("limiters", frozenset())
"""Other limiters and breakers, in one environment: they are asked in process, and need no broker."""


UNLIKE: Final = frozenset({"pybreaker", "aiolimiter"})
"""Not compared as limiters: one is none, the other waits on one event loop, and no thread may ask it."""


def decisions(_ground: Ground | None, options: Options) -> Measured:
    """Measure (d), which needs no broker and has one length only."""
    say(f"(d) gate decisions{', at full length' if options.quick else ''}")
    found = gates.measured()
    others = child("benchmarks.peers.limiters", gates.DECISIONS, gates.REPEATS, python=interpreter(LIMITERS))
    figures: Any = found["ns_per_decision"]
    wanted = {"chain": 3000.0, "chain_guarded": 3000.0, "open": 500.0, "leased_enter": 1000.0}
    named = {
        "chain": "full shadow chain",
        "chain_guarded": "full shadow chain, with guard",
        "open": "normal: the open gate",
        "leased_enter": "one leased decision",
    }
    rows = [Row(named.get(kind, kind), ns, "ns", wanted.get(kind), "at most") for kind, ns in figures.items()]
    rows += [Row(kind, ns, "ns") for kind, ns in others.items()]
    breaker = others["pybreaker"]
    next_best = min(ns for kind, ns in others.items() if kind not in UNLIKE)
    rows.append(Row("rate: the next best by ours", next_best / figures["rate"], "ratio", 1.0))
    rows.append(Row("breaker: pybreaker by ours", breaker / figures["breaker"], "ratio", 1.0))
    return rows, {**found, "others_ns_per_decision": others}


ROWS: Final[dict[str, Part]] = {
    "a": Part(
        "worker",
        "no-op handler, and stepping over shadow messages, by a raw loop with headers; wanted >= 0.90, >= 0.95",
        lambda ground, options: throughput.measured(ground, quick=options.quick),
    ),
    "b": Part(
        "producer",
        "stamping a signed mark by a raw static header; wanted >= 0.90",
        lambda ground, options: produce.measured(ground, quick=options.quick),
    ),
    "c": Part(
        "flood",
        "normal p99 under a 50x shadow flood with a stuck shadow handler, by flood-free; wanted <= 1.2",
        lambda ground, options: latency.measured(ground, quick=options.quick),
    ),
    "d": Part(
        "gates",
        "one gate decision by other limiters and breakers; wanted: full shadow chain <= 3 us, normal <= 0.5 us, first",
        decisions,
    ),
    "e": Part(
        "drain",
        "no-op handler, with and without headers, by the raw client and the peers; wanted >= 0.90 of raw with headers",
        contest.drain,
    ),
    "f": Part(
        "io",
        "1 ms of I/O for each message, by key and in no order, sync and async, by the same; wanted: first, >= 10 000/s",
        contest.io,
    ),
    "g": Part("burn", "50 us of CPU for each message, by the same; wanted >= 0.98 of raw", contest.burn),
    "h": Part(
        "memory",
        "normal lane's memory with 10 k and 1 M shadow messages ahead; wanted: flat within 64 MiB",
        memory.measured,
    ),
    "i": Part(
        "rebalance",
        "longest time in which no normal message is handled while a member joins and leaves, by protocol",
        rebalance.measured,
    ),
    "j": Part(
        "repeats",
        "messages handled again after kill -9 with 10 k done above one that hangs, with and without the metadata",
        repeats.measured,
    ),
    "k": Part(
        "guard",
        "a downstream of both lanes at its capacity, with and without guard; wanted: p99 <= 50 ms, shadow >= 0.6",
        lambda ground, options: guarding.measured(ground, quick=options.quick),
    ),
    "l": Part(
        "faust",
        "normal p99 of Faust in lanes under a shadow flood with a stuck agent, beside plain Faust; wanted <= 1.2",
        lambda ground, options: agents.measured(ground, quick=options.quick),
    ),
}


def described() -> str:
    """Return the rows as lines of help."""
    return "\n".join(f"  {letter}  {row.name:10} {row.about}" for letter, row in ROWS.items())
