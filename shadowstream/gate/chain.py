"""The stages of one command, folded into one gate: cap, breaker, rate.

Each decision has two phases under one lock: every stage is checked, and only when all of them admit does each take. So
a refusal by any stage has consumed nothing of any. The order puts first what is cheap and what refuses longest.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from pybreaker import STATE_CLOSED

from shadowstream.config.model import RateRule
from shadowstream.events import GateLevel, Listeners, Outcome
from shadowstream.gate.breaker import Breaker
from shadowstream.gate.cap import Cap
from shadowstream.gate.guard import Share
from shadowstream.gate.ramp import Ramp
from shadowstream.gate.rate import RateLimit
from shadowstream.gate.verdict import Gate, OpenGate, Ticket, Verdict

if TYPE_CHECKING:
    from shadowstream.config.model import BreakerRule
    from shadowstream.gate.guard import Guard
    from shadowstream.gate.rate import Shared
    from shadowstream.lane import Lane

__all__ = ["Chain", "Rules", "Stages", "folded"]

# An enum member looked up on its class costs more than a whole stage in CPython 3.11.
ADMIT: Final = Verdict.ADMIT
NO_GENERATION: Final = -1
NO_LIMIT: Final = RateRule()


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


class Chain:
    """One gate over a command's stages; gates that differ in ``on_refusal`` share the stages and their lock."""

    __slots__ = ("_breaker", "_cap", "_checks", "_dry", "_lock", "_on_refusal", "_stages", "_takes", "_warms")

    def __init__(self, stages: Stages, on_refusal: Verdict) -> None:
        self._stages, self._on_refusal, self._lock = stages, on_refusal, stages.lock
        with self._lock:
            self.fold()
            stages.opens(self)

    def fold(self) -> None:
        """Look at the stages as they are now; called with the lock held."""
        stages = self._stages
        self._cap, self._breaker = cap, breaker = stages.cap, stages.breaker
        rate = stages.rate
        stages_there = (stages.share, None if cap.limit is None else cap, breaker, rate)
        asked = [stage for stage in stages_there if stage is not None]
        refusing = [stage for stage in asked if stage.name not in stages.dry]
        self._checks = tuple((stage.check, stage.name) for stage in refusing)
        self._takes = tuple(stage.take for stage in refusing if stage is not cap)
        self._dry = tuple(stage for stage in asked if stage.name in stages.dry)
        self._warms = bool(stages.ramps)

    def enter(self, now: float, work: object = None) -> Ticket:  # noqa: ARG002 - the protocol's signature
        """Decide at monotonic second ``now``; a refusal has consumed nothing of any stage."""
        with self._lock:
            breaker = self._breaker
            if self._warms:
                self._stages.warm(now)
            for check, name in self._checks:
                wait_s = check(now)
                if wait_s:
                    ticket = Ticket(self._on_refusal, wait_s, False, name, now)  # noqa: FBT003 - by position is faster
                    break
            else:
                ticket = Ticket(ADMIT, 0.0, False, "", now)  # noqa: FBT003 - by position is faster
                for take in self._takes:
                    take(ticket)
                for stage in self._dry:
                    self._tried(stage, ticket, now)
                self._cap.in_flight += 1
        if breaker is not None and breaker.changed:
            breaker.announce()
        return ticket

    @staticmethod
    def _tried(stage: Cap | Breaker | RateLimit | Share, ticket: Ticket, now: float) -> None:
        """Let a stage in dry run decide: what it would have refused takes nothing of it, and is nothing to it."""
        if stage.check(now):
            ticket.dry = stage.name
            if isinstance(stage, Breaker):
                ticket.generation = NO_GENERATION
        else:
            stage.take(ticket)

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Say how an admitted message ended at monotonic second ``now``; a second time changes nothing."""
        with self._lock:
            breaker = self._breaker
            if ticket.left or ticket.verdict is not ADMIT:
                return
            ticket.left = True
            self._cap.in_flight -= 1
            if breaker is not None:
                breaker.leave(ticket, outcome, now, error)
        if breaker is not None and breaker.changed:
            breaker.announce()

    def level(self, now: float) -> GateLevel:
        """Return what the gate looks like at monotonic second ``now``."""
        return self._stages.level(now)


def folded(stages: Stages, on_refusal: Verdict) -> Gate:
    """Return the gate over these stages, the open one when there are none."""
    return OpenGate() if stages.empty else Chain(stages, on_refusal)
