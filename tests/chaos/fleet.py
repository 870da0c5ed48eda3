"""The workers, as processes that people run: members that join, leave, die and freeze."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shadowstream.lane import Lane
from tests.broker.service import alive, children, environment_of

if TYPE_CHECKING:
    from tests.chaos.load import Source

REPO = Path(__file__).resolve().parents[2]
GROUP = "chaos"
GROUPS = {"n": GROUP, "s": f"{GROUP}.shadow"}
# The drain, what the supervisor adds, and what a client needs to leave while no coordinator answers.
ASKED_S = 6.0
"""After so long a member that should end is asked what it is doing."""
END_S = 75.0
LATE, HUNG = 1, 4
"""A lane did not end by the deadline, and its supervisor killed it; a handler did not end by then.

Where links are broken or the machine is busy neither is a fault, nor is a signal that came before the command listened.
"""
DIED = re.compile(r"lane_died lane=(\w+) exit=(-?\d+)")
SESSION_S = 6.0
"""After how long without an answer a member is put out of its group, whatever the protocol."""
SESSION_MS = int(1000 * SESSION_S)
PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "range", "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500},
    "cooperative": {
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 500,
    },
    "kip-848": {"group.protocol": "consumer"},
}


def document(bootstrap: str, protocol: str, sources: list[Source]) -> dict[str, Any]:
    """Return the service's configuration."""
    kafka = {
        "bootstrap.servers": bootstrap,
        "group.id": GROUP,
        "fetch.wait.max.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 3000,
        **PROTOCOLS[protocol],
    }
    plain, keyed, apart = (source.topic for source in sources)
    return {
        "service": "chaos",
        "kafka": kafka,
        "worker": {"commit_every": "200ms", "drain": "3s", "revoke": "2s"},
        "topics": {
            plain: {"order": "partition", "concurrency": 3, "backoff": "10ms"},
            keyed: {"order": "key", "concurrency": 4, "backoff": "10ms", "shadow": {"on_limit": "park"}},
            apart: {"order": "partition", "concurrency": 2, "backoff": "10ms", "route": "topic"},
        },
        "rate_limit": {f"shadow.{keyed}": {"hard": "300/s", "burst": 50}},
    }


class Member:
    """One worker command and its lanes' processes."""

    def __init__(self, folder: Path, name: str, flaw: str) -> None:
        self.name = name
        self._folder = folder
        self._flaw = flaw
        self._process: subprocess.Popen[bytes] | None = None
        self._lanes: set[int] = set()
        """Lane processes seen, to end those whose supervisor was killed."""

    @property
    def log(self) -> Path:
        """Where it logs."""
        return self._folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether its command runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the command."""
        command = [sys.executable, "-m", "shadowstream", "--log-level", "info", "worker", "tests.chaos.app:worker"]
        paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "CHAOS_FLAW": self._flaw,
            "CHAOS_RUN": str(os.getpid()),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def lane(self, lane: Lane) -> int | None:
        """Return the process of a lane, None while it has none."""
        if self._process is None:
            return None
        for child in children(self._process.pid):
            if f"SHADOWSTREAM_LANE={lane.value}" in environment_of(child):
                self._lanes.add(child)
                return child
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def killed(self) -> None:
        """Kill the command and its lanes, as a container's end does."""
        lanes = [self.lane(lane) for lane in Lane]
        self.signal(signal.SIGKILL)
        for pid in filter(None, lanes):
            sent(pid, signal.SIGKILL)
        self.ended()

    def asked(self) -> None:
        """Let its lanes write into the log what each of their threads is doing."""
        for lane in Lane:
            if (pid := self.lane(lane)) is not None:
                sent(pid, signal.SIGUSR1)

    def ended(self, timeout_s: float = END_S) -> int | None:
        """Wait until the command and its lanes have ended; None when they do not."""
        until = time.monotonic() + timeout_s
        if self._process is None:
            return 0
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        while any(alive(pid) for pid in self._lanes):
            if time.monotonic() > until:
                return None
            time.sleep(0.05)
        self._lanes.clear()
        return code


@dataclass
class Fleet:
    """All members; started and stopped by faults and by the run."""

    folder: Path
    flaw: str = ""
    members: list[Member] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    """How commands that were told to end did end."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, settings: dict[str, Any], members: int) -> None:
        """Write the configuration and start the first members."""
        (self.folder / "shadowstream.yaml").write_text(json.dumps(settings))
        for _ in range(members):
            self.joined()

    def joined(self) -> Member:
        """Start one more member."""
        with self._lock:
            member = Member(self.folder, f"member-{len(self.members) + 1}", self.flaw)
            self.members.append(member)
        member.start()
        return member

    def left(self, member: Member, *, for_good: bool = False, calm: bool = False) -> None:
        """Tell a member to end, and see that it does; where nothing is broken (``calm``) it has to do so in order."""
        member.signal(signal.SIGTERM)
        if (code := member.ended(ASKED_S)) is None:
            member.asked()
            code = member.ended()
        if code is None:
            self.troubles.append(f"{member.name} did not end {END_S:g} s after SIGTERM")
            member.killed()
        else:
            self.exits.append(code)
            if code not in ({0} if calm else {0, LATE, HUNG, -signal.SIGTERM}):
                self.troubles.append(f"{member.name} ended with code {code} after SIGTERM")
        if for_good:
            self.members.remove(member)

    def all_left(self) -> None:
        """Tell all members to end while nothing is broken, and see that they do in order."""
        with ThreadPoolExecutor(len(self.members)) as pool:
            for left in [pool.submit(self.left, member, calm=True) for member in self.members]:
                left.result()

    def all_started(self) -> None:
        """Start every member that does not run."""
        for member in self.members:
            if not member.running:
                member.start()

    def kill_all(self) -> None:
        """Leave nothing behind."""
        for member in self.members:
            member.killed()

    def died(self) -> list[str]:
        """Return the lanes that died by themselves: by the members' logs, with another code than that of a kill."""
        found = []
        for log in sorted(self.folder.glob("member-*.log")):
            for lane, code in DIED.findall(log.read_text(errors="replace")):
                if code != str(-signal.SIGKILL):
                    found.append(f"lane {lane} of {log.stem} died by itself with code {code}")
        return found


def sent(pid: int, number: signal.Signals) -> bool:
    """Send a process a signal, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
