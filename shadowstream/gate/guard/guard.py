"""Looks at normal's vitals twice a second, and holds the level that shadow's gates go by."""

from __future__ import annotations

import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from shadowstream.config.beside import Beside
from shadowstream.events import Guarding
from shadowstream.gate.guard.level import Level
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shadowstream.config.model import GuardSettings
    from shadowstream.events import Listeners
    from shadowstream.gate.guard.vitals import Board, Memo

__all__ = ["Guard"]

log = logging.getLogger("shadowstream.gate")

TICK_S: Final = 0.5


class Guard(Beside):
    """The guard of one process's shadow lane: gates read ``level``, which is one number and needs no lock."""

    def __init__(
        self,
        objectives: GuardSettings,
        board: Board | Memo,
        hooks: Listeners,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("guard")
        self._board, self._hooks, self._now = board, hooks, now
        self._level = Level(objectives)
        # Nothing is known of normal yet, and shadow fails closed; the first tick comes at once.
        self.level = 0.0
        """By what shadow's rate and concurrency are multiplied."""
        self.normal: Mapping[str, float] = MappingProxyType({})
        """Normal's calls a second by command, as last seen."""
        self.ticks = 0
        """How often it has looked: whoever goes by the level looks at it again when this has changed."""
        self._said = ""

    def tick(self) -> None:
        """Look once."""
        vitals, level = self._board.read(), self._level
        if vitals is not None:
            self.normal = MappingProxyType(dict(vitals.rates))
        self.level = level.tick(vitals, self._now())
        self.ticks += 1
        self._hooks.on(Guarding(Lane.SHADOW, self.level, level.strain, level.why, level.latched))
        self._say()

    def release(self) -> None:
        """Let a latched level come back: somebody has armed a run anew."""
        self._level.release()

    def _say(self) -> None:
        """Log what changes, and not each step."""
        level = self._level
        state = "latched" if level.latched else "cut" if level.value < 1.0 else "open"
        if state == self._said:
            return
        self._said = state
        if state == "latched":
            log.error("guard_latched why=%s: normal suffered again and again; arm the run anew, or restart", level.why)
        elif state == "cut":
            log.warning("guard_cuts level=%.2f why=%s strain=%.2f", level.value, level.why, level.strain)
        else:
            log.warning("guard_open")

    def _go_on(self) -> None:
        while True:
            try:
                self.tick()
            except Exception:
                # Whatever it is, nobody looks: shadow stands still.
                self.level = 0.0
                self.ticks += 1
                log.exception("guard_failed")
            if self._ended.wait(TICK_S):
                return
