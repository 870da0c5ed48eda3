"""Breakers of one lane that open together: what one process has found out by failing, the others need not.

Who opens says so, and until when; the others open theirs until that moment. Each half-opens and closes by its own
trials. What was heard is never said again, or two processes would keep each other open.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Opens = Callable[[float, float], None]

__all__ = ["Trips"]


class Trips:
    """What is to be said and heard of a lane's breakers; gates say, the clerk's thread hears and takes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = Lock()
        self._opens: dict[str, Opens] = {}
        """Opens a command's breaker for some seconds from a monotonic second on."""
        self._unsaid: dict[str, float] = {}
        """Until which monotonic second a breaker that has opened stays so."""
        self._heard: Mapping[str, int] = {}
        """The moments that were heard last, in the server's microseconds."""

    def join(self, command: str, opens: Opens) -> None:
        """Let a command's breaker hear of the others' from now on."""
        with self._lock:
            self._opens[command] = opens

    def leave(self, command: str) -> None:
        """Let a command's breaker go by itself."""
        with self._lock:
            self._opens.pop(command, None)

    def say(self, command: str, until: float) -> None:
        """Say that a breaker has opened here, until a monotonic second."""
        with self._lock:
            self._unsaid[command] = until
        self._wake()

    def take(self) -> Mapping[str, float]:
        """Return what is to be said, and until when each is open."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, {}
        return unsaid

    def keep(self, command: str, until: float) -> None:
        """Keep what could not be said, unless something newer is to be."""
        with self._lock:
            self._unsaid.setdefault(command, until)

    def hear(self, open_until: Mapping[str, int], left_s: Mapping[str, float], now: float) -> None:
        """Open what others have opened since the last time, for as long as is left of it."""
        before, self._heard = self._heard, open_until
        with self._lock:
            opens = dict(self._opens)
        for command, moment in open_until.items():
            if before.get(command) != moment and command in opens and left_s[command] > 0:
                opens[command](left_s[command], now)
