"""What one command goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shadowstream.gate.breaker import Breaker
from shadowstream.gate.cap import Cap
from shadowstream.gate.rate import RateLimit

if TYPE_CHECKING:
    from shadowstream.config.model import BreakerRule, RateRule
    from shadowstream.gate.rate import Shared

__all__ = ["Rules"]


class Rules(NamedTuple):
    """What one command goes by in one lane."""

    rate: RateRule | None = None
    breaker: BreakerRule | None = None
    shared: Shared | None = None
    """What this process holds of the hard rate, where many share it."""

    @property
    def limits(self) -> RateRule | None:
        """Return the rate rule if it limits anything."""
        rate = self.rate
        return None if rate is None or (rate.soft_per_s is None and rate.hard_per_s is None) else rate

    @property
    def cap(self) -> int | None:
        """Return how many calls may be under way, None for any number."""
        return None if self.breaker is None else self.breaker.max_concurrent

    @property
    def dry(self) -> frozenset[str]:
        """Return the stages that refuse nothing."""
        calls, rates = self.breaker is not None and self.breaker.dry_run, self.rate is not None and self.rate.dry_run
        return frozenset({Breaker.name, Cap.name} if calls else ()) | frozenset({RateLimit.name} if rates else ())
