"""The processes of (l): a Faust app in each lane with a stuck shadow agent; plain Faust with one limiter for all.

The load and the flood are those of (c).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faust

import shadowstream as ss
from benchmarks.ground import end_with_parent
from benchmarks.lanes import SHARED_PER_S, Recorder
from shadowstream.integrations.faust import lane_app
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OPTIONS: Final[dict[str, Any]] = {
    "store": "memory://",
    "web_enabled": False,
    "topic_partitions": 1,
    "broker_commit_interval": 0.5,
    "consumer_auto_offset_reset": "earliest",
    "stream_wait_empty": False,
}


class Value:
    """A message's value, as the recorder asks for it."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


def topic_of(app: faust.App, name: str) -> Any:  # noqa: ANN401 - Faust has no types
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    return app.topic(name, **raw)


def lane(settings: ss.Settings, topic: str, folder: Path, which: Lane) -> faust.App:
    """Be one lane; the shadow agent never returns from its first message."""
    app, recorder = lane_app(settings, which, datadir=folder / which.value, **OPTIONS), Recorder(folder)

    @app.agent(topic_of(app, topic))
    async def handle(stream: Any) -> None:  # noqa: ANN401 - as above
        async for value in stream:
            if ss.is_shadow():
                (folder / "shadow-ready").touch()
                await asyncio.Event().wait()
            recorder.handle(Value(value))

    return app


def plain(settings: ss.Settings, topic: str, folder: Path) -> faust.App:
    """Be what people have today: one app, one agent, one limiter for every message."""
    kafka = settings.normal.kafka
    broker = f"kafka://{kafka['bootstrap.servers']}"
    app = faust.App(str(kafka["group.id"]), broker=broker, datadir=folder / "plain", **OPTIONS)
    recorder, admitted = Recorder(folder), limited(SHARED_PER_S)

    @app.agent(topic_of(app, topic))
    async def handle(stream: Any) -> None:  # noqa: ANN401 - as above
        async for event in stream.events():
            await admitted()
            if settings.mark.header not in event.headers:
                recorder.handle(Value(event.value))

    return app


def limited(rate_per_s: float, burst_s: float = 0.1) -> Callable[[], Awaitable[None]]:
    """Return what gives a turn so many times a second; what was not used is kept for ``burst_s`` seconds."""
    due = [time.monotonic()]

    async def turn() -> None:
        now = time.monotonic()
        due[0] = max(due[0] + 1 / rate_per_s, now - burst_s)
        if due[0] > now:
            await asyncio.sleep(due[0] - now)

    return turn


def both(*arguments: str) -> int:
    """Run a process for each lane, the shadow one at lower priority, as people do it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    command = [sys.executable, "-m", "benchmarks.agent_lanes"]
    normal = subprocess.Popen([*command, Lane.NORMAL.value, *arguments])
    shadow = subprocess.Popen([*command, Lane.SHADOW.value, *arguments])
    os.setpriority(os.PRIO_PROCESS, shadow.pid, 10)
    try:
        return normal.wait()
    finally:
        for process in (normal, shadow):
            process.terminate()
        for process in (normal, shadow):
            process.wait(6)


def main(role: str, settings: str, topic: str, folder: str) -> None:
    """Be one of the processes."""
    end_with_parent()
    if role == "lanes":
        sys.exit(both(settings, topic, folder))
    loaded, path = ss.load(settings, strict=True), Path(folder)
    app = plain(loaded, topic, path) if role == "plain" else lane(loaded, topic, path, Lane(role))
    faust.Worker(app, loglevel=logging.ERROR, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
