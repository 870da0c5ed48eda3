"""A stand-in for the remote service that a handler waits for.

How long it takes is set under ``tasks:``, by command and lane: ``work_s`` seconds, and ``hangs_while: FILE`` to hang
for as long as that file exists, as a service does that is gone without hanging up. Only what a lane's own settings say
can slow that lane, so the handlers need no switch and normal's path has none.
"""

from __future__ import annotations

import time
from pathlib import Path

import shadowstream as ss

__all__ = ["Downstream"]

LOOK_S = 0.02


class Downstream:
    """The service behind a command, one for each lane."""

    def __init__(self, settings: ss.Settings, command: str) -> None:
        lanes = [settings.normal, *filter(None, [settings.shadow])]
        tasks = {each.lane: each.tasks.get(command, {}) for each in lanes}
        self._work_s = {lane: float(str(task.get("work_s", 0))) for lane, task in tasks.items()}
        files = {lane: task.get("hangs_while") for lane, task in tasks.items()}
        self._hangs_while = {lane: Path(str(file)) for lane, file in files.items() if file}

    def call(self) -> None:
        """Wait as long as the service behind the lane of the work at hand takes."""
        lane = ss.Lane.SHADOW if ss.is_shadow() else ss.Lane.NORMAL
        time.sleep(self._work_s[lane])
        file = self._hangs_while.get(lane)
        while file is not None and file.exists():
            time.sleep(LOOK_S)
