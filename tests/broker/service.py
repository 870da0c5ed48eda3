"""A service as people run it, ``shadowstream worker app:worker``, that writes down what its handlers do.

Its handlers append to a journal in one write each, so what was written before a kill -9 is there afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.broker.rig import DEADLINE_S, KEY_VARIABLE, REPO, SECRET, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from shadowstream.lane import Lane
    from tests.broker.rig import Rig

HEAD = """
import json, os, signal, threading, time
import shadowstream as ss

settings = ss.load("shadowstream.yaml")
worker = ss.Worker(settings)
producer = ss.Producer(settings)
book = os.open("journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(message, what="done"):
    entry = [what, message.lane, message.topic(), message.partition(), message.offset(), message.value().decode()]
    os.write(book, json.dumps([*entry, os.getpid()]).encode() + b"\\n")


"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: what a handler did with which message, in which process."""

    what: str
    lane: str
    topic: str
    partition: int
    offset: int
    value: str
    pid: int


class Service:
    """A worker's processes: the command and a child per lane."""

    def __init__(self, rig: Rig, app: str, topics: Mapping[str, Any], **sections: Any) -> None:
        self._rig = rig
        self._folder = rig.folder
        (rig.folder / "app.py").write_text(HEAD + app)
        (rig.folder / "shadowstream.yaml").write_text(json.dumps(rig.document(topics, **sections)))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **environment: str) -> Self:
        """Start the command."""
        command = [sys.executable, "-m", "shadowstream", "--log-level", "info", "worker", "app:worker", *arguments]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=surroundings() | environment, stderr=log, stdout=log
            )
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        # Shown by pytest when the test fails.
        print(self.log())  # noqa: T201

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The command's process."""
        assert self._process is not None
        return self._process

    @property
    def log_path(self) -> Path:
        """Where the log goes."""
        return self._folder / "log"

    def log(self) -> str:
        """Return everything that was logged."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def pid(self, lane: Lane) -> int | None:
        """Return the process of one lane, None while it has none."""
        for child in children(self.process.pid):
            if f"SHADOWSTREAM_LANE={lane.value}" in environment_of(child):
                return child
        return None

    def journal(self, lane: Lane | None = None, what: str = "done") -> list[Entry]:
        """Return what handlers wrote down, in the order of writing."""
        path = self._folder / "journal"
        if not path.exists():
            return []
        # Each line is one write, so a killed process leaves none half written; a reader beside it may see half of one.
        whole = path.read_text().rpartition("\n")[0]
        entries = [Entry(*json.loads(line)) for line in whole.splitlines()]
        return [entry for entry in entries if entry.what == what and lane in (None, entry.lane)]

    def done(self, lane: Lane) -> Counter[str]:
        """Return how often each value of a lane was handled."""
        return Counter(entry.value for entry in self.journal(lane))

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)

    def stopped(self) -> int:
        """Wait until the command has ended; return its exit code."""
        return self.process.wait(DEADLINE_S)

    def restarted(self, lane: Lane, before: int) -> None:
        """Wait until a lane runs in another process than before."""
        eventually(lambda: self.pid(lane) not in (None, before), f"a new process of lane {lane}")

    def kill(self) -> None:
        """End everything at once, and wait until it has."""
        if self._process is None:
            return
        pids = children(self._process.pid)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in pids:
            kill(pid)


def kill(pid: int) -> None:
    """Do as ``kill -9`` does."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    eventually(lambda: not alive(pid), f"process {pid} gone")


def alive(pid: int) -> bool:
    """Tell whether a process still runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Return the children of a process's main thread."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def environment_of(pid: int) -> list[str]:
    """Return the environment that a process was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return []


def surroundings() -> dict[str, str]:
    """Return the environment of a process that finds this repository and the key."""
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), KEY_VARIABLE: SECRET}
