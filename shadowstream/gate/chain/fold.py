"""The stages of one command, folded into one gate: guard, cap, breaker, rate.

Each decision has two phases under one lock: every stage is checked, and only when all of them admit does each take. So
a refusal by any stage has consumed nothing of any. The order puts first what is cheap and what refuses longest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shadowstream.gate.breaker import Breaker
from shadowstream.gate.verdict import Gate, OpenGate, Ticket, Verdict

if TYPE_CHECKING:
    from shadowstream.events import GateLevel, Outcome
    from shadowstream.gate.cap import Cap
    from shadowstream.gate.chain.stages import Stages
    from shadowstream.gate.guard import Share
    from shadowstream.gate.rate import RateLimit

__all__ = ["Chain", "folded"]

# An enum member looked up on its class costs more than a whole stage in CPython 3.11.
ADMIT: Final = Verdict.ADMIT
NO_GENERATION: Final = -1


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
