"""A Faust app as people run it, a process for each lane, that writes down what its agents do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S
from tests.broker.service import surroundings

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from tests.broker.rig import Rig

HEAD = """
import asyncio, json, os
import shadowstream as ss
from shadowstream.integrations.faust import lane_app

settings = ss.load("faust.yaml")
app = lane_app(settings, store="memory://", web_enabled=False, topic_partitions=1, broker_max_poll_interval=30.0,
               consumer_auto_offset_reset="earliest", stream_wait_empty=False, broker_commit_interval=0.1,
               broker_session_timeout=6.0, broker_heartbeat_interval=1.0)


def raw(name):
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


book = os.open("journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(value, what="done"):
    mark = ss.current()
    run = None if mark is None else mark.run
    entry = [what, os.environ["SHADOWSTREAM_LANE"], run, value.decode() if isinstance(value, bytes) else value]
    os.write(book, json.dumps(entry).encode() + b"\\n")


"""


@dataclass(frozen=True, slots=True)
class Noted:
    """One line of the journal."""

    what: str
    process: str
    """The lane of the process that wrote it."""
    run: str | None
    """The run of the lane that the agent was in; None: normal."""
    value: str


class FaustService:
    """Both processes, inside a ``with`` block."""

    def __init__(self, rig: Rig, app: str, topics: Mapping[str, Any], **sections: Any) -> None:
        self._folder = rig.folder
        (rig.folder / "app.py").write_text(HEAD + app)
        (rig.folder / "faust.yaml").write_text(json.dumps(rig.document(topics, **sections)))
        self._processes: dict[Lane, subprocess.Popen[bytes]] = {}

    def start(self, lane: Lane) -> None:
        """Start one lane's process."""
        command = [sys.executable, "-m", "faust", "-A", "app:app", "worker", "--without-web", "-l", "info"]
        environment = surroundings() | {"SHADOWSTREAM_LANE": lane.value}
        with (self._folder / f"{lane}.log").open("ab") as log:
            self._processes[lane] = subprocess.Popen(command, cwd=self._folder, env=environment, stderr=log, stdout=log)

    def restart(self, lane: Lane, number: signal.Signals) -> None:
        """End one lane's process with a signal, then start another one."""
        self._processes[lane].send_signal(number)
        self._processes[lane].wait(DEADLINE_S)
        self.start(lane)

    def replace(self, lane: Lane) -> None:
        """Start another process of one lane beside the one that is there, which then is stopped."""
        other = self._processes.pop(lane)
        self.start(lane)
        other.terminate()
        other.wait(DEADLINE_S)

    def __enter__(self) -> Self:
        for lane in Lane:
            self.start(lane)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(DEADLINE_S)
        for lane in self._processes:
            # Shown by pytest when the test fails.
            print(lane, self.log(lane))  # noqa: T201

    def log(self, lane: Lane) -> str:
        """Return everything that one lane's process logged."""
        return (self._folder / f"{lane}.log").read_text()

    def noted(self, what: str = "done") -> list[Noted]:
        """Return what the agents wrote down."""
        path = self._folder / "journal"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [each for each in (Noted(*json.loads(line)) for line in whole.splitlines()) if each.what == what]

    def values(self, lane: Lane, what: str = "done") -> list[str]:
        """Return the values that one lane's agents wrote down, in that order."""
        return [each.value for each in self.noted(what) if each.process == lane.value]
