"""(h) The memory of the normal lane's process with a shadow backlog ahead of it.

The first and the last message of the topic are normal, all between are shadow messages that the normal lane steps
over. When it handles the last one, it notes the most memory that its process ever had (resident, as the kernel
counts it). Each backlog meets a fresh process; the growth is the largest of the others by the smallest backlog, and
includes what the client itself keeps ready: at most 20 000 messages, or 32 MiB of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shadowstream as ss
from benchmarks.child import end_with_parent
from benchmarks.figures import Row, spread
from benchmarks.ground import child, say
from benchmarks.throughput import filled

if TYPE_CHECKING:
    from benchmarks.ground import Ground
    from benchmarks.options import Options

__all__ = ["measured"]


def measured(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the table, and everything measured."""
    backlogs = [1_000, 50_000] if options.quick else [10_000, 1_000_000]
    backlogs += [10_000_000] if options.huge else []
    found = {backlog: of_backlog(ground, backlog, options.turns(3)) for backlog in backlogs}
    first, *others = (spread(each) for each in found.values())
    rows = [Row.of(f"memory with {backlog:,} ahead", spread(each), "MiB") for backlog, each in found.items()]
    growth = max(each.median for each in others) - first.median
    rows.append(Row("memory: growth with the backlog", growth, "MiB", 64.0, "at most"))
    return rows, {"about": __doc__, "high_water_mib": found}


def of_backlog(ground: Ground, backlog: int, rounds: int) -> list[float]:
    """Return the high-water marks of some processes that step over one backlog."""
    topic = f"backlog-{backlog}"
    filled(ground, topic, backlog + 2, shadow=True)
    taken = []
    for number in range(rounds):
        settings = ground.settings(f"{topic}-{number}", topic)
        taken.append(child("benchmarks.memory", settings, topic)["high_water_mib"])
        say(f"(h) {backlog} ahead, {number + 1}/{rounds}: {taken[-1]:.1f} MiB")
    ground.drop(topic)
    return taken


def high_water_mib() -> float:
    """Return the most memory that this process had; not `ru_maxrss`, which begins with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kib) / 1024


def main(settings: str, topic: str) -> None:
    """Be the normal lane, until its second message; prints the high-water mark as JSON."""
    end_with_parent()
    worker = ss.Worker(ss.load(settings, strict=True), lanes="normal")
    marks: list[float] = []

    @worker.handles(topic)
    def handle(_message: ss.Message) -> None:
        marks.append(high_water_mib())
        if len(marks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    worker.run()
    sys.stdout.write(json.dumps({"high_water_mib": marks[-1]}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
