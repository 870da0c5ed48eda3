"""What the guard's level leaves of one command's calls, and what normal leaves of a limit of both lanes.

What is multiplied by the level is what normal was seen to bear, a base of calls a second and of calls at once. It
begins with the command's own limits; where it has none, with one call at a time. A cut brings the base down to what was
really done, for a limit far above it would leave everything as it is; at a level of 1 it grows by a twentieth with each
tick, as long as it is what holds calls back, up to the command's own limits. So nothing ever opens at a stroke.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, ClassVar, Final

from shadowstream.gate.cap import FULL_RETRY_S
from shadowstream.gate.rate import Bucket

if TYPE_CHECKING:
    from shadowstream.config.model import RateRule
    from shadowstream.gate.cap import Cap
    from shadowstream.gate.guard.guard import Guard
    from shadowstream.gate.rate import Shared
    from shadowstream.gate.verdict import Ticket

__all__ = ["Share"]

CLOSED_RETRY_S: Final = 0.1
"""After how long to ask again when nothing is left; the level changes twice a second."""
SEEN_S: Final = 0.25
"""The least time over which a rate is seen."""
SEEN_TICKS: Final = 2
"""When nobody has asked for longer than that, what was done says nothing of what could be."""
GROWS: Final = 1.05
"""What a base becomes with a tick in which it held calls back."""
BURST_S: Final = 0.02
"""A rate is spread out: so many seconds of it may pass at once."""


class Share:
    """The guard stage of one command."""

    __slots__ = (
        "_at_once",
        "_base_at_once",
        "_base_per_s",
        "_bound",
        "_bucket",
        "_cap",
        "_command",
        "_count",
        "_guard",
        "_joint",
        "_joint_per_s",
        "_level",
        "_limit",
        "_limit_per_s",
        "_most",
        "_rated",
        "_shared",
        "_since",
        "_tick",
    )

    name: ClassVar[str] = "guard"

    def __init__(self, guard: Guard, command: str, cap: Cap, rate: RateRule | None = None) -> None:
        self._guard, self._command, self._cap = guard, command, cap
        self._bucket, self._rated = Bucket(0.0), False
        """The level's share of the base rate, and whether there is any."""
        self._joint_per_s = None if rate is None else rate.joint_per_s
        self._joint = Bucket(0.0)
        self._tick = -1
        """The guard's tick that was looked at last."""
        self._level, self._at_once = 0.0, 0
        self._base_per_s, self._base_at_once = inf, 1
        self._bound = ""
        """Which base has held a call back since the last tick."""
        self._count, self._most, self._since = 0, 0, 0.0
        """The calls since a moment, and the most of them at once."""
        self.adopt(None, None, None)

    def adopt(self, rate: RateRule | None, limit: int | None, shared: Shared | None) -> None:
        """Go by the command's own rate, and its own limit of calls at once."""
        before = self._own() if self._tick >= 0 else None
        hard_per_s = None if rate is None else rate.hard_per_s
        self._limit_per_s = inf if hard_per_s is None else hard_per_s
        self._limit, self._shared = limit, shared
        if self._own() != before:
            self._base_per_s, self._base_at_once = self._own()
        self._tick = -1

    def check(self, now: float) -> float:
        """Return the seconds until one more call fits (0.0: now); takes nothing."""
        if self._guard.ticks != self._tick:
            self._look(now)
        if self._level <= 0.0:
            return CLOSED_RETRY_S
        if self._cap.in_flight >= self._at_once:
            self._bound = "at_once"
            return FULL_RETRY_S
        wait_s = 0.0
        if self._rated and (wait_s := self._bucket.check(now)):
            self._bound = "per_s"
        if self._joint_per_s is not None:
            wait_s = max(wait_s, self._joint.check(now))
        return min(wait_s, CLOSED_RETRY_S)

    def take(self, ticket: Ticket) -> None:  # noqa: ARG002 - the stages' signature
        """Take one call."""
        if self._rated:
            self._bucket.content += 1.0
        if self._joint_per_s is not None:
            self._joint.content += 1.0
        self._count += 1
        in_flight = self._cap.in_flight + 1
        self._most = max(self._most, in_flight)

    def _look(self, now: float) -> None:
        """Go by the guard's last tick."""
        before, passed = self._level, self._guard.ticks - self._tick
        self._level, self._tick = self._guard.level, self._guard.ticks
        if self._level < before and passed <= SEEN_TICKS:
            self._shrink(before, now)
        elif self._level >= 1.0:
            self._grow()
        self._apply(now)
        elapsed_s = now - self._since
        if elapsed_s >= SEEN_S:
            self._count, self._most, self._since = 0, self._cap.in_flight, now
        self._bound = ""

    def _shrink(self, before: float, now: float) -> None:
        """Bring the bases down to what was done at the level before."""
        elapsed_s = now - self._since
        if before <= 0.0 or not self._count or elapsed_s < SEEN_S:
            return
        self._base_per_s = min(self._base_per_s, max(self._count / elapsed_s / before, 1.0))
        self._base_at_once = min(self._base_at_once, ceil(self._most / before))

    def _grow(self) -> None:
        """Let the base grow that has held calls back, up to the command's own limits."""
        own_per_s, own_at_once = self._own()
        if self._bound == "per_s":
            self._base_per_s = min(GROWS * self._base_per_s, own_per_s)
        elif self._bound == "at_once":
            more = ceil(GROWS * self._base_at_once)
            self._base_at_once = more if self._limit is None else min(more, own_at_once)

    def _apply(self, now: float) -> None:
        # At a level of 1 the command's own limit is the limiter's to keep.
        self._rated = self._base_per_s < (self._own()[0] if self._level >= 1.0 else inf)
        if self._rated:
            rate_per_s = self._level * self._base_per_s
            self._bucket.adopt(rate_per_s, ceil(BURST_S * rate_per_s), now)
        self._at_once = max(ceil(self._level * self._base_at_once), 1)
        if self._joint_per_s is not None:
            left_per_s = max(self._joint_per_s - self._guard.normal.get(self._command, 0.0), 0.0)
            self._joint.adopt(left_per_s, ceil(BURST_S * left_per_s), now)

    def _own(self) -> tuple[float, int]:
        """Return this process's part of the command's rate, and its calls at once: one where there is no limit."""
        members = 1 if self._shared is None else self._shared.members
        return self._limit_per_s / members, 1 if self._limit is None else self._limit
