"""From normal's vitals to the level in [0, 1] by which shadow's rate and concurrency are multiplied.

Additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for
Congestion Avoidance in Computer Networks", 1989): cut by half when a signal reaches half of its objective, all of it
when it reaches the objective; otherwise a small step up. Many who do so at one downstream come to fair shares.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shadowstream.config.model import GuardSettings
    from shadowstream.gate.guard.vitals import Vitals

__all__ = ["Level"]

CUT_AT: Final = 0.5
"""The share of an objective at which shadow is cut by half."""
START: Final = 0.1
"""Nobody knows yet what normal bears."""
STEP: Final = 0.05
"""What comes back with each calm tick, as a share of the level that was cut last: ten seconds from cut to cut."""
FRESH_S: Final = 1.5
"""How old vitals may be: some may be lost, a process that stands still is seen."""
SETTLE_S: Final = 1.25
"""How long what was slow before a cut is still in normal's window after it."""
TRIPS: Final = 3
TRIPS_WITHIN_S: Final = 60.0
"""As many times within so long must an objective be broken until shadow stands still for good."""
LEAST: Final = 0.01
"""A level below that is nothing, and nothing less comes back with a tick."""


class Level:
    """The level of one process's shadow lane."""

    __slots__ = ("_cut_until", "_knee", "_objectives", "_trips", "latched", "strain", "value", "why")

    def __init__(self, objectives: GuardSettings) -> None:
        self._objectives = objectives
        self._cut_until = 0.0
        self._knee = 1.0
        """The level that was cut last: about there normal begins to suffer."""
        self._trips: deque[float] = deque(maxlen=TRIPS)
        self.value = START if _asked(objectives) else 1.0
        """The level."""
        self.strain = 0.0
        """The largest share of an objective that a signal had at the last tick."""
        self.why = ""
        """The signal that it was cut for last: ``p99``, ``error_rate``, ``lag_growth``, ``loop_lag``, ``blind``."""
        self.latched = False
        """Whether it stays 0 until somebody releases it."""

    def tick(self, vitals: Vitals | None, now: float) -> float:
        """Return the level for the time until the next tick."""
        # Not from the future either: the clock begins anew with the machine, and a file may be older than that.
        if vitals is None or abs(now - vitals.at) > FRESH_S:
            self.strain = 1.0
            self._cut(0.5, "blind")
        else:
            self._go_by(vitals, now)
        if self.latched:
            self.value = 0.0
        return self.value

    def release(self) -> None:
        """Begin anew: somebody has looked."""
        self.latched = False
        self._trips.clear()

    def _go_by(self, vitals: Vitals, now: float) -> None:
        strains = self._strains(vitals)
        why = max(strains, key=strains.__getitem__, default="")
        self.strain = strains.get(why, 0.0)
        if self.strain >= 1.0:
            # What stands still is not to blame for what goes on without it.
            if self.value > 0.0:
                self._cut(0.0, why)
                self._trip(now)
        elif self.strain >= CUT_AT:
            if now >= self._cut_until:
                self._cut(0.5, why)
                self._cut_until = now + SETTLE_S
        else:
            self.value = min(self.value + max(STEP * self._knee, LEAST), 1.0)

    def _strains(self, vitals: Vitals) -> dict[str, float]:
        """Return each signal as a share of its objective; of what has none nobody asks."""
        signals = {
            "p99": (vitals.p99_s, self._objectives.p99_s),
            "error_rate": (vitals.error_rate, self._objectives.error_rate),
            "lag_growth": (vitals.lag_growth_per_s, self._objectives.lag_growth_per_s),
            "loop_lag": (vitals.loop_lag_s, self._objectives.loop_lag_s),
        }
        return {name: value / objective for name, (value, objective) in signals.items() if objective}

    def _cut(self, by: float, why: str) -> None:
        if why != "blind" and self.value:
            self._knee = self.value
        self.value = 0.0 if by * self.value < LEAST else by * self.value
        self.why = why

    def _trip(self, now: float) -> None:
        self._trips.append(now)
        self.latched = len(self._trips) == TRIPS and now - self._trips[0] <= TRIPS_WITHIN_S


def _asked(objectives: GuardSettings) -> bool:
    """Tell whether any objective is set."""
    return any((objectives.p99_s, objectives.error_rate, objectives.lag_growth_per_s, objectives.loop_lag_s))
