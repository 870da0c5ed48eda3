"""All gates of one lane, each built when it is first asked for."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from shadowstream.errors import SetupError
from shadowstream.events import HotKeys
from shadowstream.gate.chain import Rules, Stages, folded
from shadowstream.gate.fleet import Clerk, RunGate, Runs
from shadowstream.gate.keys import KeyedGate, KeyedLimit
from shadowstream.gate.verdict import Gate, OpenGate, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybreaker import CircuitBreaker

    from shadowstream.config.model import FleetSettings, LaneSettings, RateRule
    from shadowstream.events import GateLevel, Listeners
    from shadowstream.gate.fleet import Stock
    from shadowstream.gate.fleet.clerk import LayOver
    from shadowstream.gate.guard import Guard
    from shadowstream.gate.keys.gate import Finder

__all__ = ["Gates"]


class Gates:
    """One lane's gates: one state for each command, however many topics ask for it.

    A lane's settings hold values that may have fallen back to normal's; the state never does, because each lane has its
    own Gates.
    """

    __slots__ = ("_clerk", "_guard", "_hooks", "_keyed", "_lay_over", "_lock", "_made", "_settings", "_stages")

    def __init__(self, settings: LaneSettings, hooks: Listeners, guard: Guard | None = None) -> None:
        self._settings, self._hooks, self._guard = settings, hooks, guard
        self._lock = Lock()
        self._stages: dict[str, Stages] = {}
        self._made: dict[tuple[str, Verdict], Gate] = {}
        self._keyed: dict[str, KeyedLimit] = {}
        self._clerk: Clerk | None = None
        self._lay_over: LayOver | None = None

    def hear(self, lay_over: LayOver) -> None:
        """Say who takes what is laid over the configuration; until then no run goes on, where that may be."""
        with self._lock:
            self._lay_over = lay_over
            if self._clerk is not None:
                self._clerk.lay_over = lay_over

    def gate(self, command: str, on_refusal: Verdict = Verdict.WAIT, values: Finder | None = None) -> Gate:
        """Return the command's gate, whose refusals carry ``on_refusal``.

        ``values`` makes, of the names of the command's limit by keys, what finds their values in whatever the gate is
        asked about; without it that limit is left out.

        Raises:
            SetupError: the refusal would admit.
        """
        if on_refusal is Verdict.ADMIT:
            raise SetupError(f"gate of {command!r}: a refusal cannot admit; use wait, park or shed as on_refusal")
        with self._lock:
            gate = self._made.get((command, on_refusal))
            if gate is None:
                gate = self._made[command, on_refusal] = folded(self._of(command), on_refusal)
            runs = self._runs()
        limit = None if values is None else self.keyed(command)
        if limit is not None and values is not None:
            gate = KeyedGate(gate, limit, values(limit.fields), on_refusal)
        return gate if runs is None else RunGate(gate, runs, on_refusal)

    def adopt(self, settings: LaneSettings, now: float) -> None:
        """Go on by the rules of other settings from monotonic second ``now`` on, with all that is known by then.

        Each command changes at once. Whoever holds a gate asks for it anew: where there was no rule, or another limit
        by keys, it is another one.
        """
        with self._lock:
            self._settings = replace(
                self._settings,
                **{each: getattr(settings, each) for each in ("default_rate", "rates", "breakers", "key_limits")},
            )
            for command, stages in self._stages.items():
                stages.adopt(self._rules(command), now)
                self._join(command, stages)
            for command, limit in list(self._keyed.items()):
                rule = settings.key_limits.get(command)
                if rule is None:
                    del self._keyed[command]
                else:
                    limit.adopt(rule)
            self._made = {key: gate for key, gate in self._made.items() if not isinstance(gate, OpenGate)}

    def portions(self, parts: Mapping[str, float], now: float) -> None:
        """Go by these parts of commands' rates from monotonic second ``now`` on: the rest is other processes'."""
        with self._lock:
            for command, part in parts.items():
                self._of(command).portion(part, now)

    def keyed(self, command: str) -> KeyedLimit | None:
        """Return the command's limit for each value of some fields, None when it has none."""
        rule = self._settings.key_limits.get(command)
        if rule is None:
            return None
        with self._lock:
            return self._keyed.setdefault(command, KeyedLimit(rule))

    def circuit(self, command: str) -> CircuitBreaker | None:
        """Return the command's pybreaker object, to force or watch its state; None when it has no breaker."""
        with self._lock:
            breaker = self._of(command).breaker
        return None if breaker is None else breaker.circuit

    def levels(self, now: float) -> list[GateLevel | HotKeys]:
        """Return what each command with rules looks like at monotonic second ``now``, and its hot keys since before."""
        with self._lock:
            known = [stages for stages in self._stages.values() if stages.gated]
            keyed = [(command, limit) for command, limit in self._keyed.items() if limit.tells]
        hot = [HotKeys(self._settings.lane, command, limit.hot()) for command, limit in keyed]
        return [*(stages.level(now) for stages in known), *hot]

    def _of(self, command: str) -> Stages:
        """Return the command's stages; called with the lock held."""
        stages = self._stages.get(command)
        if stages is None:
            stages = Stages(self._settings.lane, command, self._rules(command), self._hooks, self._guard)
            self._stages[command] = stages
            self._join(command, stages)
        return stages

    def _join(self, command: str, stages: Stages) -> None:
        """Let a command's breaker open with those of the lane's other processes, where its rule says so."""
        fleet, rule, breaker = self._settings.fleet, self._settings.breaker(command), stages.breaker
        if breaker is None or rule is None or fleet is None:
            return
        if not rule.fleet:
            breaker.say = None
            if self._clerk is not None:
                self._clerk.trips.leave(command)
            return
        trips = self._known(fleet).trips
        breaker.say = trips.say
        trips.join(command, breaker.open_for)

    def _rules(self, command: str) -> Rules:
        rate = self._settings.rate(command)
        return Rules(rate, self._settings.breaker(command), self._shared(command, rate))

    def _shared(self, command: str, rate: RateRule | None) -> Stock | None:
        """Return what this process holds of a limit of many; None when it is its own."""
        fleet = self._settings.fleet
        if fleet is None or rate is None or not rate.fleet or rate.hard_per_s is None:
            return None
        return self._known(fleet).stock(command, rate)

    def _runs(self) -> Runs | None:
        """Return which runs may go on; None where they need no lease. Called with the lock held."""
        fleet = self._settings.fleet
        return self._known(fleet).runs if fleet is not None and fleet.lease else None

    def _known(self, fleet: FleetSettings) -> Clerk:
        if self._clerk is None:
            armed = None if self._guard is None else self._guard.release
            self._clerk = Clerk(self._settings.lane, fleet, lay_over=self._lay_over, armed=armed)
        return self._clerk

    def close(self) -> None:
        """Leave what is shared with other processes."""
        with self._lock:
            clerk, self._clerk = self._clerk, None
        if clerk is not None:
            clerk.end()
