"""The processes of (k): a downstream of fixed capacity, and a worker whose handlers of both lanes call it.

The downstream serves one call after the other, in the order in which they came, each for as long as the capacity says:
what a database, a partner's endpoint or a lock does when it is at its end. Whoever comes late waits for all before.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import shadowstream as ss
from benchmarks.child import end_with_parent
from benchmarks.ground import SECRET
from benchmarks.lanes import STAMP, Recorder
from shadowstream.events import Guarding
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from shadowstream.config import LaneSettings
    from shadowstream.events import Event

__all__ = ["PORT", "read_calls", "read_levels"]

PORT: Final = "downstream-port"
CALLS: Final = "downstream-calls"
LEVELS: Final = "levels"
NORMAL, SHADOW = b"n", b"s"


class Downstream:
    """Serves so many calls a second, and not one more."""

    def __init__(self, per_s: float) -> None:
        self._each_s = 1 / per_s
        self._free_at = 0.0
        self.calls: dict[str, list[int]] = {"n": [], "s": []}
        """When each call was done, in nanoseconds of the monotonic clock, by whose it was."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection's calls, a byte each."""
        while call := await reader.read(1):
            self._free_at = max(self._free_at, time.monotonic()) + self._each_s
            await asyncio.sleep(self._free_at - time.monotonic())
            self.calls[call.decode()].append(time.monotonic_ns())
            writer.write(call)
        writer.close()


async def downstream(folder: Path, per_s: float) -> None:
    """Serve until SIGTERM, then write down when each call was done."""
    served, ended = Downstream(per_s), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, backlog=1000)
    (folder / f"{PORT}.draft").write_text(str(server.sockets[0].getsockname()[1]))
    (folder / f"{PORT}.draft").rename(folder / PORT)
    await ended.wait()
    (folder / CALLS).write_text(json.dumps(served.calls))


class Pool:
    """Connections to the downstream, one call at a time on each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, what: bytes) -> None:
        """Make one call."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(what)
        await reader.readexactly(1)
        self._idle.append((reader, writer))


class Levels:
    """Writes down what the guard leaves."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{LEVELS}-{os.getpid()}"

    def on(self, event: Event) -> None:
        """Note one fact."""
        if isinstance(event, Guarding):
            with self._path.open("a") as file:
                file.write(f"{time.monotonic_ns()} {event.level} {event.strain}\n")


def worker(settings: ss.Settings, topic: str, folder: Path) -> None:
    """Run both lanes, a process each; every message is one call."""
    recorder, pool = Recorder(folder), Pool(int((folder / PORT).read_text()))

    def hooks(lane: LaneSettings) -> list[Levels]:
        return [Levels(folder)] if lane.lane is Lane.SHADOW else []

    running = ss.Worker(settings, lanes="both", hooks=hooks)

    @running.handles(topic)
    async def handle(message: ss.Message) -> None:
        await pool.call(SHADOW if ss.is_shadow() else NORMAL)
        if not ss.is_shadow():
            recorder.handle(message)
        elif STAMP.unpack_from(message.value() or b"") == (0,):
            (folder / "shadow-ready").touch()

    running.run()


def read_calls(folder: Path) -> dict[str, list[int]]:
    """Return when the downstream's calls were done, by whose they were: ``n`` or ``s``."""
    found: dict[str, list[int]] = json.loads((folder / CALLS).read_text())
    return found


def read_levels(folder: Path) -> list[tuple[int, float]]:
    """Return the guard's level over time."""
    lines = [line.split() for path in folder.glob(f"{LEVELS}-*") for line in path.read_text().splitlines()]
    return sorted((int(at), float(level)) for at, level, _ in lines)


def main(role: str, settings: str, topic: str, folder: str, *rest: str) -> None:
    """Be one of the processes."""
    end_with_parent()
    path = Path(folder)
    if role == "downstream":
        asyncio.run(downstream(path, float(rest[0])))
    else:
        worker(ss.load(settings, environ=SECRET, strict=True), topic, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
