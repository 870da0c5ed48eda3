"""Keeps one process per lane running under one command.

Each lane is this very command again with the lane in its environment, so nothing is forked and nothing is pickled.
Traps:

* The children have process groups of their own: Ctrl-C reaches the parent alone, who passes it on once. A second one
  means "now" (``test_a_second_signal_ends_the_worker_at_once``).
* A child whose parent was killed stops by itself: it watches its parent's id
  (``test_a_lane_ends_when_its_parent_was_killed``).
* A lane that exits with code 2 is wrongly set up and would only fail again. For shadow that means: no shadow lane.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.kafka.clients import logger_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LANE_VARIABLE", "Supervisor", "adopted_lane", "collect_less_often", "on_signals", "pair_of", "watch_parent"]

log = logger_of("supervisor")

LANE_VARIABLE = "SHADOWSTREAM_LANE"
PARENT_VARIABLE = "SHADOWSTREAM_PARENT"
SETUP_EXIT = 2
LOOK_S = 0.1
MAX_BACKOFF_S = 30.0
GRACE_S = 5.0
COLLECT_AFTER = 10_000


@dataclass(slots=True)
class Child:
    """One lane's process."""

    lane: Lane
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    """Monotonic seconds."""
    start_at: float = 0.0
    """Monotonic seconds of the next start, while it is not running."""
    backoff_s: float = 0.5
    off: bool = False
    """Not to be started again."""


class Supervisor:
    """Starts a process per lane, restarts those that die, and stops them together."""

    def __init__(self, lanes: Sequence[Lane], drain_s: float, command: Sequence[str] | None = None) -> None:
        self._children = [Child(lane) for lane in lanes]
        self._drain_s = drain_s
        self._command = list(command or _this_command())
        self._signals = 0
        self._exit = 0

    def run(self) -> int:
        """Run until a signal or a wrong set-up ends it; returns the exit code."""
        with on_signals(self._signalled):
            while not self._signals and self._exit == 0:
                for child in self._children:
                    self._look_after(child)
                time.sleep(LOOK_S)
            self._stop()
        return self._exit

    def _signalled(self) -> None:
        self._signals += 1

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if not child.off and now >= child.start_at:
                self._start(child, now)
            return
        code = child.process.poll()
        if code is not None:
            self._ended(child, code, now)

    def _start(self, child: Child, now: float) -> None:
        environment = os.environ | {LANE_VARIABLE: child.lane.value, PARENT_VARIABLE: str(os.getpid())}
        child.process = subprocess.Popen(self._command, env=environment, process_group=0)  # noqa: S603 - this command
        child.started_at = now
        log.info("lane_started lane=%s pid=%d", child.lane, child.process.pid)

    def _ended(self, child: Child, code: int, now: float) -> None:
        child.process = None
        if code == SETUP_EXIT:
            child.off = True
            if child.lane is Lane.NORMAL:
                self._exit = SETUP_EXIT
            log.error("lane_off lane=%s exit=%d: it is wrongly set up, see its message above", child.lane, code)
            return
        ran_long = now - child.started_at > MAX_BACKOFF_S
        child.backoff_s = 0.5 if ran_long else min(child.backoff_s * 2, MAX_BACKOFF_S)
        child.start_at = now + child.backoff_s
        log.error("lane_died lane=%s exit=%d restart_in_s=%.1f", child.lane, code, child.backoff_s)

    def _stop(self) -> None:
        """Let every lane drain; at the deadline or a second signal end it at once."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + self._drain_s + GRACE_S
        while any(process.poll() is None for process in running):
            if self._signals > 1 or time.monotonic() > until:
                for process in running:
                    process.kill()
                self._exit = self._exit or 1
            time.sleep(LOOK_S / 2)
        self._exit = self._exit or max((_exit_code(process.returncode) for process in running), default=0)


def _exit_code(code: int) -> int:
    """Return a lane's exit code; one that our SIGTERM met before it could listen ended as it should."""
    return 0 if code == -signal.SIGTERM else abs(code)


def _this_command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def adopted_lane() -> Lane | None:
    """Return the lane a parent started this process for, once; None when nobody did."""
    lane = os.environ.pop(LANE_VARIABLE, None)
    return None if lane is None else Lane(lane)


def pair_of(lanes: Sequence[Lane]) -> str:
    """Return what the two lanes of one worker have in common: their parent, their process, or that they run alone."""
    return os.environ.get(PARENT_VARIABLE) or (str(os.getpid()) if len(lanes) > 1 else "alone")


def watch_parent(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the parent that started this lane is gone."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(LOOK_S)
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def on_signals(call: Callable[[], None]) -> Iterator[None]:
    """Call back on SIGTERM and Ctrl-C inside the block."""
    before = {number: signal.signal(number, lambda *_: call()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def collect_less_often() -> None:
    """Let the garbage collector look after 10 000 new objects, not after some hundred.

    Each message is a handful of objects that live for milliseconds and are in no cycle: looking for them costs a lane
    a sixth of its speed and finds nothing. What is there already is left alone for good: one look through Faust and all
    that it imports stops a lane for 60 to 80 ms.
    """
    gc.freeze()
    first, *rest = gc.get_threshold()
    if 0 < first < COLLECT_AFTER:
        gc.set_threshold(COLLECT_AFTER, *rest)
