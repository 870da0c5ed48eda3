"""What the load writes into a message and what a handler writes into its process's journal.

A journal is one file per process, each line one write(2): what was written before a kill -9 is there afterwards.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNALS = "journal"
RELEASED = "released"


class Kind(StrEnum):
    """What a message asks of its handler, or of the mark's reader."""

    PLAIN = "plain"
    SLOW = "slow"
    FAT = "fat"
    """900 KiB."""
    FLAKY = "flaky"
    """Raises once in each process."""
    POISON = "poison"
    """Raises whenever it is tried."""
    HANG = "hang"
    """Never returns in the first process that tries it."""
    EXPIRED = "expired"
    GARBLED = "garbled"
    """Its mark cannot be read."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one message says: `n 17 slow`, and padding behind it."""

    lane: str
    number: int
    kind: Kind

    def written(self, padding: int = 0) -> bytes:
        """Spell it."""
        return f"{self.lane} {self.number} {self.kind} ".encode() + b"." * padding


def order_of(value: bytes | None) -> Order:
    """Read a message's value."""
    lane, number, kind, _ = (value or b"").split(b" ", 3)
    return Order(lane.decode(), int(number), Kind(kind.decode()))


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal about one message."""

    what: str
    """``handled``, or ``raised`` for an attempt that a handler refused."""
    lane: str
    """As the handler saw it: ``n`` or ``s``."""
    topic: str
    partition: int
    offset: int
    number: int
    at_ns: int
    """Of the machine's monotonic clock, which all its processes share."""
    process: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a journal about what the worker announced."""

    what: str
    """``count`` (outcomes), ``rebalance`` or ``commit-failed``."""
    lane: str
    name: str
    count: int
    process: str = ""


class Journal:
    """The journal of this process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        name = folder / f"{os.getpid()}-{time.monotonic_ns()}"
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, lane: str, place: tuple[str, int, int], number: int) -> None:
        """Write down what happened to one message."""
        topic, partition, offset = place
        line = f"m {what} {lane} {topic} {partition} {offset} {number} {time.monotonic_ns()}\n"
        os.write(self._file, line.encode())

    def tell(self, what: str, lane: str, name: str, count: int = 1) -> None:
        """Write down what the worker announced."""
        os.write(self._file, f"t {what} {lane} {name} {count}\n".encode())

    def closed(self) -> None:
        """Write down that this process ended in order."""
        os.write(self._file, b"closed\n")


@dataclass(slots=True)
class Journals:
    """What all processes of a run wrote down."""

    entries: list[Entry]
    told: list[Told]
    closed: set[str]
    """Processes that ended in order."""


def read(folder: Path) -> Journals:
    """Read every journal of a run."""
    found = Journals([], [], set())
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        for line in _lines(path):
            _sort(line, path.name, found)
    return found


def _lines(path: Path) -> Iterator[str]:
    # Each line is one write, so only a disk could tear one; and the last one may be on its way while we read.
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield line


def _sort(line: str, process: str, found: Journals) -> None:
    first, *rest = line.split()
    if first == "m":
        what, lane, topic, *numbers = rest
        found.entries.append(Entry(what, lane, topic, *map(int, numbers), process=process))
    elif first == "t":
        what, lane, name, count = rest
        found.told.append(Told(what, lane, name, int(count), process))
    else:
        found.closed.add(process)
