"""A program of the benchmarks that needs no broker; a library leaves an unfinished line on its output."""

from __future__ import annotations

import sys

from benchmarks.peers.task import ID, Stopwatch, report, told

if __name__ == "__main__":
    task = told()
    watch = Stopwatch(task, lambda: None)
    tick = watch.ticker()
    for number in range(task.messages):
        tick(ID.pack(number))
    sys.stdout.write("\x1b[?25l")
    report(watch.report(), "confluent-kafka")
