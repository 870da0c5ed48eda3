"""What a peer's program is told, and what it reports.

Standard library only: this runs in every peer's environment.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import platform
import struct
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.child import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Tick = Callable[[bytes | None], None]

__all__ = ["BACKOFF", "COMMIT_S", "ID", "Report", "Stopwatch", "Task", "asynchronous", "report", "synchronous", "told"]

ID: Final = struct.Struct("<q")
"""What a payload begins with: the message's number in its topic."""
LOOK: Final = 64
"""The clock is read once in so many messages; the warm-up is a multiple of it."""
SLEEP_S: Final = 0.001
BURN_S: Final = 50e-6
COMMIT_S: Final = 0.5
"""How often a program that commits by itself does, as the worker."""
BACKOFF: Final = {"fetch.queue.backoff.ms": 10}
"""librdkafka's 1000 stops the fetcher for a second whenever its queue was full."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one program has to do."""

    bootstrap: str
    topic: str
    group: str
    messages: int
    """Of the topic, the warm-up among them."""
    warm: int
    """How many pass before the clock starts."""
    work: str = "none"
    """For each message: ``none``, ``sleep`` a millisecond, ``burn`` 50 us of CPU."""
    handler: str = "sync"
    """``sync`` or ``async``."""
    order: str = "partition"
    """Which messages must keep their order: ``partition``, ``key``, ``none``."""
    concurrency: int = 1
    """For those that have it."""
    limit_s: float = 10.0
    """A slow one stops here, with fewer messages."""
    check: bool = False
    """Whether each message's number is noted; it costs a no-op handler a third of its rate."""
    settings: str = ""
    """Our own settings file; the others have none."""

    def __post_init__(self) -> None:
        """Refuse a warm-up that the clock would miss."""
        if self.warm % LOOK or self.warm >= self.messages:
            raise ValueError(f"warm {self.warm} of {self.messages} messages: a multiple of {LOOK}, and fewer than all")


@dataclass(frozen=True, slots=True)
class Report:
    """What one program says when it is done."""

    messages: int
    """Counted: the warm-up is not."""
    seconds: float
    """From the first counted message to the last."""
    cpu_s: float
    """Of all threads in that time; of all processes from their beginning where the peer works with several."""
    complete: bool
    """Whether it came to the last message before its time was over."""
    repeats: int = 0
    """Messages handled more than once; only when checked."""
    missing: int = 0
    """Messages not handled, though it came to the end; only when checked."""


class Stopwatch:
    """Counts what is handled, from any thread, and times it."""

    def __init__(self, task: Task, done: Callable[[], object]) -> None:
        """Prepare; ``done`` is called once, by the message that is the last."""
        self._task = task
        self._done = done
        self._seen = bytearray(task.messages if task.check else 0)
        self._began = (0.0, 0.0)
        self._taken: tuple[int, float, float] | None = None

    def ticker(self) -> Tick:
        """Return what is to be called after each message's work, with its payload if ids are checked."""
        task, numbers, seen = self._task, itertools.count().__next__, self._seen
        last, warm, mask, look = task.messages - 1, task.warm, LOOK - 1, self._look

        def tick(_value: bytes | None) -> None:
            # One step in C, so no two threads get the same number.
            number = numbers()
            if number >= warm and (not number & mask or number == last):
                look(number)

        def checked(value: bytes | None) -> None:
            (identity,) = ID.unpack_from(value or b"")
            seen[identity] = min(seen[identity] + 1, 255)
            tick(value)

        return checked if task.check else tick

    def _look(self, number: int) -> None:
        task, now = self._task, perf_counter()
        if number == task.warm:
            self._began = now, process_time()
        elif self._taken is None and (number == task.messages - 1 or now - self._began[0] > task.limit_s):
            self._taken = number - task.warm, now - self._began[0], process_time() - self._began[1]
            self._done()

    def report(self) -> Report:
        """Return what was measured.

        Raises:
            RuntimeError: it did not come to an end.
        """
        if self._taken is None:
            raise RuntimeError("the consumer ended before it had handled its messages")
        counted, seconds, cpu_s = self._taken
        complete = counted == self._task.messages - 1 - self._task.warm
        missing = self._seen.count(0) if complete else 0
        return Report(counted, seconds, cpu_s, complete, sum(n > 1 for n in self._seen), missing)


def synchronous(task: Task, tick: Tick) -> Tick:
    """Return the handler: the task's work, then the tick."""

    def sleeping(value: bytes | None) -> None:
        time.sleep(SLEEP_S)
        tick(value)

    def burning(value: bytes | None) -> None:
        burn()
        tick(value)

    return {"none": tick, "sleep": sleeping, "burn": burning}[task.work]


def asynchronous(task: Task, tick: Tick) -> Callable[[bytes | None], Coroutine[Any, Any, None]]:
    """Return the same as a coroutine function."""
    inline = synchronous(task, tick)

    async def sleeping(value: bytes | None) -> None:
        await asyncio.sleep(SLEEP_S)
        tick(value)

    async def working(value: bytes | None) -> None:
        inline(value)

    return sleeping if task.work == "sleep" else working


def burn() -> None:
    """Use the processor for 50 us of this thread's own time, however many others want it."""
    until = thread_time() + BURN_S
    while thread_time() < until:
        pass


def told() -> Task:
    """Read the task from the command line, and end when the parent does."""
    end_with_parent()
    return Task(**json.loads(sys.argv[1]))


def report(found: Report, *distributions: str) -> None:
    """Print the report as one line of JSON, and end at once: what else a client's shutdown takes is not measured."""
    clients = {name: version(name) for name in distributions}
    # A line of its own: a library may have left its last one unfinished.
    print("\n" + json.dumps({**asdict(found), "python": platform.python_version(), "clients": clients}), flush=True)
    sys.stderr.flush()
    os._exit(0)
