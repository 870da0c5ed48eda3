"""How fast letters may go: the rate that was asked for, and in the shadow lane its own gate besides.

Time is an argument. A gate that says when to ask again admits its only asker then, so one that refuses three times
running is closed: a limit of 0, a kill. The gate is asked for its limits alone: whether a handler is healthy, no replay
can tell, so each ticket goes back at once as neither success nor failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shadowstream.events import Outcome
from shadowstream.gate import RE_ASK_S, Bucket

if TYPE_CHECKING:
    from shadowstream.gate import Gates

__all__ = ["Pace"]

CLOSED_AFTER: Final = 3


class Pace:
    """The limits of one replay."""

    __slots__ = ("_bucket", "_gates", "_refusals", "refused_by")

    def __init__(self, rate_per_s: float | None, gates: Gates | None) -> None:
        self._bucket = None if rate_per_s is None else Bucket(rate_per_s)
        self._gates = gates
        self._refusals = 0
        self.refused_by = ""
        """The stage of the gate that refused last."""

    def ask(self, command: str, now: float) -> float:
        """Take one letter at monotonic second ``now``: 0.0, or the seconds after which to ask again."""
        if self._bucket is not None and (wait_s := self._bucket.check(now)):
            return wait_s
        if self._gates is not None and (wait_s := self._refused(self._gates, command, now)):
            return wait_s
        if self._bucket is not None:
            self._bucket.content += 1.0
        return 0.0

    def close(self) -> None:
        """Leave what is shared with others."""
        if self._gates is not None:
            self._gates.close()

    @property
    def closed(self) -> bool:
        """Tell whether the gate lets nothing through at all."""
        return self._refusals >= CLOSED_AFTER

    def _refused(self, gates: Gates, command: str, now: float) -> float:
        gate = gates.gate(command)
        ticket = gate.enter(now)
        if not ticket.admitted:
            # A limit that is shared may say a little later than it said before: somebody else came first.
            self._refusals += ticket.wait_s >= RE_ASK_S
            self.refused_by = ticket.by
            return ticket.wait_s
        gate.leave(ticket, Outcome.CANCELLED, now)
        self._refusals = 0
        return 0.0
