"""(j) How many messages are handled again after ``kill -9`` with ten thousand done above one that hangs.

The first message's handler never returns; those of all other keys do. No commit may pass the first message, so a plain
offset makes all that was done above it be done again. Once nothing more is handled, and some commits later, the process
is killed, and a second one of the same group, in which nothing hangs, handles what it is given. Each notes what it
handled on a board that outlives it. In the second leg the engine commits offsets alone, as other clients do: the list
of what is done above the offset is taken out of it.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer

import shadowstream as ss
from benchmarks.child import end_with_parent
from benchmarks.figures import Row, spread
from benchmarks.ground import CLIENT, PAYLOAD, say, started
from benchmarks.peers.task import ID
from shadowstream.kafka.offsets.done import NOTHING_DONE, Done

if TYPE_CHECKING:
    import subprocess

    from benchmarks.ground import Ground
    from benchmarks.options import Options

__all__ = ["measured"]

FIRST, SECOND_LIFE, TWICE = 1, 2, 4
"""What stands on the board for a message: handled in the first life, in the second; twice in one of them."""
QUIET_S: Final = 1.5
"""Nothing handled for so long, and three times the interval of commits."""
PATIENCE_S: Final = 60.0
KEYS: Final = 1000
LEGS: Final = ("with the metadata", "without")


def measured(ground: Ground, options: Options) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the table, and everything measured."""
    count = 1_000 if options.quick else 10_000
    runs: dict[str, list[dict[str, int]]] = {}
    rows = []
    for leg in LEGS:
        found = [run(ground, f"{leg}-{number}".replace(" ", "-"), count, leg) for number in range(options.turns(3))]
        runs[leg] = found
        for what, name in (("above", "done above the one that hangs"), ("repeats", "of them handled again")):
            rows.append(Row.of(f"{leg}: {name}", spread([float(each[what]) for each in found]), "messages"))
        rows.append(Row(f"{leg}: never handled", sum(each["lost"] for each in found), "messages", 0, "at most"))
    return rows, {"about": __doc__, "messages": count, "runs": runs}


def run(ground: Ground, name: str, count: int, leg: str) -> dict[str, int]:
    """Kill one worker and let another go on; returns what the board says."""
    topic = ground.topic(f"repeats-{name}")
    filled(ground, topic, count + 1)
    rule: dict[str, object] = {"order": "key", "concurrency": 64, "max_messages": 2 * count + 2}
    settings = ground.settings(topic, topic, rule)
    path = ground.folder / f"{topic}.board"
    path.write_bytes(bytes(count + 1))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as board:
        with started("benchmarks.repeats", settings, topic, path, FIRST, leg) as first:
            settle(first, board, begun=1)
            first.kill()
            first.wait()
        done = bytes(board)
        with started("benchmarks.repeats", settings, topic, path, SECOND_LIFE, leg) as second:
            settle(second, board, begun=sum(map(bool, done)) + 1)
        found = of_boards(done, bytes(board))
    ground.drop(topic)
    say(f"(j) {name}: {found['above']} done above the one that hangs, {found['repeats']} handled again")
    return found


def filled(ground: Ground, topic: str, count: int) -> None:
    """Write numbered messages; the first one has its key for itself."""
    client = Producer({"bootstrap.servers": ground.broker.bootstrap, **CLIENT})
    for number in range(count):
        client.produce(topic, ID.pack(number) + PAYLOAD[ID.size :], b"key-%d" % (number % KEYS if number else KEYS))
        client.poll(0)
    if left := client.flush(60):
        raise RuntimeError(f"{left} messages were not delivered within 60 s")


def settle(process: subprocess.Popen[str], board: mmap.mmap, *, begun: int) -> None:
    """Wait until at least so many are handled and nothing changes any more.

    Raises:
        RuntimeError: the process ended, or it took too long.
    """
    until, seen, since = time.monotonic() + PATIENCE_S, b"", time.monotonic()
    while sum(map(bool, seen)) < begun or time.monotonic() - since < QUIET_S:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r}: exit code {process.poll()}, {sum(map(bool, seen))} messages handled")
        time.sleep(0.05)
        if (now := board[:]) != seen:
            seen, since = now, time.monotonic()


def of_boards(killed: bytes, ended: bytes) -> dict[str, int]:
    """Return how many were done when the first was killed, and how many of these the second did again."""
    return {
        "above": sum(map(bool, killed)),
        "repeats": sum(bool(before and after & SECOND_LIFE) for before, after in zip(killed, ended, strict=True)),
        "twice_in_one_life": sum(bool(after & TWICE) for after in ended),
        "lost": ended.count(0),
    }


def main(settings: str, topic: str, path: str, life: str, leg: str) -> None:
    """Be one life of the worker."""
    end_with_parent()
    if leg == LEGS[1]:
        Done.written = lambda _: ("", NOTHING_DONE)  # type: ignore[method-assign] # no setting does that: who would want it
    bit = int(life)
    worker = ss.Worker(ss.load(settings, strict=True), lanes="normal")
    with Path(path).open("r+b") as file:
        board = mmap.mmap(file.fileno(), 0)

    @worker.handles(topic)
    async def handle(message: ss.Message) -> None:
        (number,) = ID.unpack_from(message.value() or b"")
        if not number and bit == FIRST:
            await asyncio.Event().wait()
        board[number] |= TWICE if board[number] & bit else bit

    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
