"""What is kept of one command between decisions: its stages, and the lock over them.

The rules may change while calls are decided: then each stage goes on with what it knows, and the gates look at the
stages anew, all under the lock.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from pybreaker import STATE_CLOSED

from shadowstream.config.model import RateRule
from shadowstream.events import GateLevel, Listeners
from shadowstream.gate.breaker import Breaker
from shadowstream.gate.cap import Cap
from shadowstream.gate.guard import Share
from shadowstream.gate.ramp import Ramp
from shadowstream.gate.rate import RateLimit

if TYPE_CHECKING:
    from shadowstream.config.model import BreakerRule
    from shadowstream.gate.chain.fold import Chain
    from shadowstream.gate.chain.rules import Rules
    from shadowstream.gate.guard import Guard
    from shadowstream.gate.rate import Shared
    from shadowstream.lane import Lane

__all__ = ["Stages"]

NO_LIMIT: Final = RateRule()


class Stages:
    """All that one command in one lane keeps between decisions, and the lock over it, however many gates share it."""

    __slots__ = (
        "_by_partitions",
        "_chains",
        "_closed",
        "_hooks",
        "_part",
        "breaker",
        "cap",
        "command",
        "dry",
        "lane",
        "lock",
        "ramps",
        "rate",
        "share",
    )

    def __init__(self, lane: Lane, command: str, rules: Rules, hooks: Listeners, guard: Guard | None = None) -> None:
        self.lane, self.command, self._hooks, self.lock = lane, command, hooks, Lock()
        self._chains: list[Chain] = []
        self.cap = Cap(rules.cap)
        self.breaker = None if rules.breaker is None else Breaker(lane, command, rules.breaker, hooks, self.lock)
        self.rate = None if rules.limits is None else RateLimit(rules.limits, rules.shared)
        self._by_partitions = rules.limits is not None and rules.limits.by_partitions
        self._part = 1.0
        if self._by_partitions:
            self.portion(0.0, 0.0)
        self.share = None if guard is None else Share(guard, command, self.cap, rules.rate)
        """What the guard leaves."""
        self.ramps = self._ramps(rules)
        """What opens the stages that have to warm up."""
        self._closed = 0
        """The breaker's generation when it was last seen closed."""
        self.dry = rules.dry
        """The stages that refuse nothing."""
        self._yield(rules)

    def adopt(self, rules: Rules, now: float) -> None:
        """Go on by other rules from monotonic second ``now`` on, with what is known of the calls until then."""
        with self.lock:
            self.cap.adopt(rules.cap, now)
            self._adopt_breaker(rules.breaker)
            self._adopt_rate(rules.limits, rules.shared, now)
            self._adopt_ramps(self._ramps(rules), now)
            self._yield(rules)
            self.dry = rules.dry
            for chain in self._chains:
                chain.fold()

    def portion(self, part: float, now: float) -> None:
        """Go by this part of the rates, from monotonic second ``now`` on, where the rule says so."""
        with self.lock:
            self._part = part if self._by_partitions else 1.0
            if self.rate is not None:
                self.rate.portion(self._part, now)

    def _yield(self, rules: Rules) -> None:
        if self.share is not None:
            self.share.adopt(rules.limits, rules.cap, rules.shared)

    def _ramps(self, rules: Rules) -> tuple[Ramp, ...]:
        limited: tuple[tuple[Cap | RateLimit | None, BreakerRule | RateRule | None], ...]
        limited = (self.cap, rules.breaker), (self.rate, rules.limits)
        return tuple(
            Ramp(stage, rule.warm_up_s, rule.warm_from)
            for stage, rule in limited
            if stage is not None and rule is not None and rule.warm_up_s is not None
        )

    def _adopt_breaker(self, rule: BreakerRule | None) -> None:
        if rule is None:
            self.breaker = None
        elif self.breaker is None:
            self.breaker = Breaker(self.lane, self.command, rule, self._hooks, self.lock)
        else:
            self.breaker.adopt(rule)

    def _adopt_rate(self, rule: RateRule | None, shared: Shared | None, now: float) -> None:
        if rule is None:
            self.rate = None
            return
        if self.rate is None:
            self.rate = RateLimit(NO_LIMIT)
            self.rate.portion(self._part, now)
        self.rate.adopt(rule, shared, now)

    def _adopt_ramps(self, ramps: tuple[Ramp, ...], now: float) -> None:
        """Go on with the ramps there were; a new one is done: its limit was in use before."""
        old = {ramp.stage: ramp for ramp in self.ramps}
        for ramp in ramps:
            before = old.pop(ramp.stage, None)
            if before is None:
                ramp.skip(now)
            else:
                ramp.go_on(before)
        for stage in old:
            stage.tune(1.0, now)
        self.ramps = ramps

    def opens(self, chain: Chain) -> None:
        """Take note of a gate over these stages."""
        self._chains.append(chain)

    @property
    def empty(self) -> bool:
        """Tell whether nothing limits the command."""
        return self.breaker is None and self.rate is None and self.share is None

    @property
    def gated(self) -> bool:
        """Tell whether the command has, or had, a rule that calls were decided by."""
        return bool(self._chains)

    def warm(self, now: float) -> None:
        """Open the stages that warm up as far as they are by monotonic second ``now``; called with the lock held."""
        breaker = self.breaker
        if breaker is not None and breaker.generation != self._closed and breaker.phase == STATE_CLOSED:
            self._closed = breaker.generation
            for ramp in self.ramps:
                ramp.restart()
        for ramp in self.ramps:
            ramp.ask(now)

    def level(self, now: float) -> GateLevel:
        """Return what the command's stages look like at monotonic second ``now``."""
        with self.lock:
            phase = "none" if self.breaker is None else self.breaker.phase
            tokens = None if self.rate is None else self.rate.tokens(now)
            return GateLevel(self.lane, self.command, phase, tokens, self.cap.in_flight)
