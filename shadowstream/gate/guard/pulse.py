"""Takes the normal lane's vitals: listens to what it announces, and writes them down four times a second."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from shadowstream.config.beside import Beside
from shadowstream.events import Called, Carried, Lagging, Outcome, Rebalanced
from shadowstream.gate.guard.vitals import Vitals
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.events import Event
    from shadowstream.gate.guard.vitals import Board, Memo

    Place = tuple[str, int]

__all__ = ["Pulse"]

log = logging.getLogger("shadowstream.gate")

WRITE_S: Final = 0.25
"""How often vitals are written."""
WINDOW_S: Final = 1.0
"""What they are taken over."""
FEWEST: Final = 50
"""With fewer calls than that in the window, the window is as long as it takes for so many ..."""
LONGEST_S: Final = 5.0
"""... but not longer."""
MOST: Final = 5000
"""Calls whose times are looked at: the newest."""
LAG_S: Final = 5.0
"""What the growth of the lag is taken over."""


class Pulse(Beside):
    """A hook of the normal lane: counts its calls, and tells how it is."""

    def __init__(self, board: Board | Memo, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__("guard-pulse")
        self._board, self._now = board, now
        self._lock = threading.Lock()
        self._calls: deque[tuple[float, str, int, int, tuple[float, ...]]] = deque()
        """When, command, calls, failures, seconds: as announced."""
        self._lags: dict[Place, int] = {}
        self._sums: deque[tuple[float, int]] = deque()
        """The sum of all lags, by when."""

    def end(self) -> None:
        """Write no more, and take away what was written."""
        super().end()
        self._board.remove()

    def on(self, event: Event) -> None:
        """Take note of one fact, if it is normal's."""
        if event.lane is not Lane.NORMAL:
            return
        if isinstance(event, Carried | Called):
            self._called(event)
        elif isinstance(event, Lagging):
            with self._lock:
                self._lags[event.topic, event.partition] = event.messages
        elif isinstance(event, Rebalanced) and event.change != "assigned":
            with self._lock:
                for place in event.partitions:
                    self._lags.pop(place, None)
                # What went is no progress, and what comes is no growth.
                self._sums.clear()

    def _called(self, event: Carried | Called) -> None:
        failures = event.outcomes.get(Outcome.FAILED, 0) + event.outcomes.get(Outcome.RETRIED, 0)
        calls = max(event.outcomes.get(Outcome.HANDLED, 0) + failures, len(event.seconds))
        if calls:
            with self._lock:
                self._calls.append((self._now(), event.command, calls, failures, event.seconds))

    def vitals(self, loop_lag_s: float = 0.0) -> Vitals:
        """Return how the lane is now."""
        now = self._now()
        with self._lock:
            window_s = self._windowed(now)
            calls = list(self._calls)
            growth = self._growth(now)
        seconds: deque[float] = deque(maxlen=MOST)
        rates: Counter[str] = Counter()
        count = failures = 0
        for at, command, each, failed, took in calls:
            seconds.extend(took)
            count, failures = count + each, failures + failed
            if now - at <= WINDOW_S:
                rates[command] += each
        ordered = sorted(seconds)
        return Vitals(
            at=now,
            calls=count,
            p99_s=ordered[min(int(0.99 * len(ordered)), len(ordered) - 1)] if ordered else 0.0,
            error_rate=failures / count if count else 0.0,
            lag_growth_per_s=growth,
            loop_lag_s=loop_lag_s,
            rates={command: each / min(window_s, WINDOW_S) for command, each in rates.items()},
        )

    def _windowed(self, now: float) -> float:
        """Forget what is out of the window; returns how long that is. Called with the lock held."""
        counted = sum(each[2] for each in self._calls)
        while self._calls:
            at, _, calls, *_ = self._calls[0]
            if now - at <= WINDOW_S or (now - at <= LONGEST_S and counted - calls < FEWEST):
                break
            counted -= calls
            self._calls.popleft()
        return max(now - self._calls[0][0], WINDOW_S) if self._calls else WINDOW_S

    def _growth(self, now: float) -> float:
        """Return by how many messages a second the lane falls behind; called with the lock held."""
        self._sums.append((now, sum(self._lags.values())))
        while now - self._sums[0][0] > LAG_S:
            self._sums.popleft()
        (began, first), (_, last) = self._sums[0], self._sums[-1]
        return (last - first) / (now - began) if now - began >= LAG_S / 2 else 0.0

    def _go_on(self) -> None:
        failed = False
        due = self._now() + WRITE_S
        while not self._ended.wait(max(due - self._now(), 0.0)):
            late_s = max(self._now() - due, 0.0)
            due = self._now() + WRITE_S
            try:
                self._board.write(self.vitals(late_s))
                failed = False
            except OSError as error:
                if not failed:
                    log.error("vitals_not_written error=%s: shadow is cut until they are", error)  # noqa: TRY400 - the error says it all
                failed = True
