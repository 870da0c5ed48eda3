"""Looks at a configuration for changes, and hands over what is right: whole, or not at all, for each lane.

The file is read, not asked for its time of change: that names seconds on some disks, and a link in front of it may
point to another file (as mounted secrets and config maps do). Traps:

* A file may be seen while it is written. So it is gone by when two looks in a row found the same
  (``test_a_file_that_is_being_written_is_not_taken``); whoever writes slower than that writes beside it and renames.
* What is wrong is said once, and not with every look (``test_what_is_wrong_is_told_once``).
* A mistake in shadow's part keeps shadow where it is, and normal goes on with its own part: normal waits for nothing of
  shadow's (``test_a_mistake_of_shadows_does_not_keep_normal_from_its_change``).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from shadowstream.config.beside import Beside
from shadowstream.config.document import Findings, content_of
from shadowstream.config.live.change import Change, refused, taken
from shadowstream.config.load import examine, version_of
from shadowstream.errors import SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shadowstream.config.model import LaneSettings, Origin, Settings

    Adopt = Callable[[LaneSettings], None]
    Tell = Callable[[Lane, str, int, bool], None]

__all__ = ["Watcher"]

log = logging.getLogger("shadowstream.config")

LOOK_S: Final = 0.5
"""How often the file is read."""


class Watcher(Beside):
    """Watches what settings were loaded from, for the lanes of one process.

    ``lanes`` are told of settings that are right, and may refuse them by a `SetupError`; ``tell`` hears what came of
    it: the lane, the version that was found, how many the lane has gone by, and whether this is one of them. Settings
    that were built by hand have no file, and never change.
    """

    def __init__(self, settings: Settings, lanes: Mapping[Lane, Adopt], tell: Tell) -> None:
        super().__init__("config-watch")
        self._origin: Origin | None = settings.origin
        self._lanes, self._tell = lanes, tell
        self._last = dict.fromkeys(lanes, settings)
        """What each lane goes by."""
        self._numbers = dict.fromkeys(lanes, 1)
        self._content = None if settings.origin is None else settings.origin.content
        """What the file was last found to hold; None: it could not be read."""
        self._candidate = self._content
        """What the last look found."""
        self._live: Mapping[str, object] | None = None
        """What is laid over shadow's part."""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Tell what is gone by, and look from now on; settings without a file are not looked for."""
        if self._origin is None or self._running() or self._ended.is_set():
            return
        for lane in self._lanes:
            self._tell(lane, self._origin.version, self._numbers[lane], True)  # noqa: FBT003 - a Callable has no keywords
        super().start()

    def _go_on(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                # Whatever it is, the last good configuration stays in force, and the next look may go well.
                log.exception("config_watch_failed")

    def look(self) -> None:
        """Look once."""
        if self._origin is None:
            return
        findings = Findings()
        content = content_of(self._origin.path, findings)
        settled, self._candidate = content == self._candidate, content
        if not settled or content == self._content:
            return
        with self._lock:
            self._content = content
            for lane in self._lanes:
                if content is None:
                    self._refuse(lane, "", findings.of(Lane.NORMAL))
                else:
                    self._consider(self._origin, lane, content)

    def lay_over(self, live: Mapping[str, object] | None) -> bool:
        """Lay some values over shadow's part of the file, None for none; tells whether that is gone by.

        They are no part of what normal goes by: it must not change because of something that only shadow needs.
        """
        with self._lock:
            if self._origin is None or self._content is None or Lane.SHADOW not in self._lanes:
                return False
            before, self._live = self._live, live
            good = self._consider(self._origin, Lane.SHADOW, self._content)
            if not good:
                self._live = before
            return good

    def _consider(self, origin: Origin, lane: Lane, content: bytes) -> bool:
        """Take what a lane's part comes to if it is right; tells whether it was."""
        live = self._live if lane is Lane.SHADOW else None
        found = examine(origin.path, environ=origin.environ, live=live, content=content)
        version = version_of(content, live)
        if found.settings is None:
            return self._refuse(lane, version, found.problems)
        if lane is Lane.SHADOW and found.settings.shadow is None:
            return self._refuse(lane, version, found.shadow_problems)
        try:
            self._lanes[lane](found.settings.of(lane))
        except SetupError as error:
            return self._refuse(lane, version, [error])
        self._numbers[lane] += 1
        before, self._last[lane] = self._last[lane], found.settings
        self._say(taken(lane, self._numbers[lane], before, found.settings))
        return True

    def _refuse(self, lane: Lane, version: str, problems: Iterable[object]) -> bool:
        self._say(refused(lane, version, self._numbers[lane], problems))
        return False

    def _say(self, change: Change) -> None:
        if change.problems:
            log.error("config_refused %s", change)
        else:
            log.warning("config_changed %s", change)
        self._tell(change.lane, change.version, change.number, not change.problems)
