"""What is noted of guarded calls until it is announced: once a second, in a thread of its own.

Traps:

* The thread begins with the first call, not with the object: a server that forks its workers makes the object before,
  and threads do not come along (``test_calls_are_announced_though_the_process_was_forked_before_the_first``).
* What was noted last is announced too, although no other call follows it
  (``test_the_last_call_before_a_silence_is_announced_too``).
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from shadowstream.events import Called, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shadowstream.events import Event, Listeners
    from shadowstream.gate.verdict import Ticket
    from shadowstream.lane import Lane

    Key = tuple[Lane, str]

__all__ = ["Notes"]

ANNOUNCE_S: Final = 1.0


class Notes:
    """Counts the calls of every lane and command; any thread may note."""

    def __init__(self, listeners: Listeners, levels: Callable[[], Iterable[Event]]) -> None:
        self._listeners = listeners
        self._levels = levels
        self._lock = threading.Lock()
        self._verdicts: dict[Key, Counter[str]] = {}
        self._outcomes: dict[Key, Counter[Outcome]] = {}
        self._seconds: dict[Key, list[float]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def decided(self, lane: Lane, command: str, ticket: Ticket) -> None:
        """Note a decision."""
        name = "admit_soft" if ticket.admitted and ticket.soft else ticket.verdict.value
        with self._lock:
            verdicts = self._verdicts.setdefault((lane, command), Counter())
            verdicts[name] += 1
            if ticket.dry:
                verdicts[f"dry_{ticket.dry}"] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, name="guarded-notes", daemon=True)
                self._thread.start()

    def ended(self, lane: Lane, command: str, outcome: Outcome, seconds: float) -> None:
        """Note how an admitted call ended."""
        with self._lock:
            self._outcomes.setdefault((lane, command), Counter())[outcome] += 1
            self._seconds.setdefault((lane, command), []).append(seconds)

    def announce(self) -> None:
        """Announce what was noted since the last time, and what the gates look like."""
        with self._lock:
            verdicts, self._verdicts = self._verdicts, {}
            outcomes, self._outcomes = self._outcomes, {}
            seconds, self._seconds = self._seconds, {}
        for lane, command in dict.fromkeys((*verdicts, *outcomes)):
            key = lane, command
            ended, took = outcomes.get(key, Counter()), tuple(seconds.get(key, ()))
            self._listeners.on(Called(lane, command, ended, verdicts.get(key, Counter()), took))
        for level in self._levels():
            self._listeners.on(level)

    def end(self) -> None:
        """Announce the last, and no more; whoever notes later is not heard."""
        self._ended.set()
        self.announce()

    def _go_on(self) -> None:
        while not self._ended.wait(ANNOUNCE_S):
            self.announce()
