"""How many calls at the same time?"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, ClassVar, Final

from shadowstream.gate.rate import RE_ASK_S

if TYPE_CHECKING:
    from shadowstream.gate.verdict import Ticket

__all__ = ["Cap"]

# A call may end at any moment, and no clock says when. Whoever sees it end should ask at once instead of waiting.
FULL_RETRY_S: Final = 0.005


class Cap:
    """The cap stage: at most ``limit`` calls in flight (0: none at all, None: any number, but counted)."""

    __slots__ = ("_full", "_level", "in_flight", "limit")

    name: ClassVar[str] = "cap"

    def __init__(self, limit: int | None) -> None:
        self._full, self._level = limit, 1.0
        self.limit = limit
        """Calls at the same time, by now."""
        self.in_flight = 0
        """Calls admitted and not yet given back; the chain counts, whether there is a cap or not."""

    def check(self, now: float) -> float:  # noqa: ARG002 - the stages' signature
        """Return the seconds until asking again is worthwhile (0.0: admitted); takes nothing."""
        if self.limit is None or self.in_flight < self.limit:
            return 0.0
        return FULL_RETRY_S if self.limit else RE_ASK_S

    def tune(self, level: float, now: float) -> None:  # noqa: ARG002 - the stages' signature
        """Admit this share of the limit, at least one call unless it is 0; whoever is in stays in."""
        self._level = level
        self.limit = None if self._full is None else ceil(level * self._full)

    def adopt(self, limit: int | None, now: float) -> None:
        """Go on with another limit; whoever is in stays in."""
        self._full = limit
        self.tune(self._level, now)

    def take(self, ticket: Ticket) -> None:
        """Take nothing more: the chain counts who is in."""
