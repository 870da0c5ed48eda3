"""A gate that looks at what it is asked about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shadowstream.events import GateLevel, Outcome
    from shadowstream.gate.keys.limit import KeyedLimit
    from shadowstream.gate.verdict import Gate, Ticket, Verdict

    Values = Callable[[Any], Mapping[str, object]]
    """Finds the values of some fields in whatever the gate is asked about."""
    Finder = Callable[[Iterable[str]], Values]

__all__ = ["KeyedGate"]


class KeyedGate:
    """A command's gate behind its limit by keys: a message passes both, or takes from neither."""

    __slots__ = ("_gate", "_limit", "_on_refusal", "_values")

    def __init__(self, gate: Gate, limit: KeyedLimit, values: Values, on_refusal: Verdict) -> None:
        self._gate, self._limit, self._values, self._on_refusal = gate, limit, values, on_refusal

    def enter(self, now: float, work: object = None) -> Ticket:
        """Decide on some work at monotonic second ``now``."""
        values = self._values(work)
        limited = self._limit.enter(values, now)
        if not limited.admitted and not self._limit.dry_run:
            limited.verdict = self._on_refusal
            return limited
        ticket = self._gate.enter(now)
        if not limited.admitted:
            # A copy: the open gate gives everybody the same one.
            ticket = replace(ticket, dry=limited.by)
        elif not ticket.admitted:
            self._limit.give_back(values)
        return ticket

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Say how admitted work ended at monotonic second ``now``, and what it failed with."""
        self._gate.leave(ticket, outcome, now, error)

    def level(self, now: float) -> GateLevel | None:
        """Return what the command's gate looks like at monotonic second ``now``."""
        return self._gate.level(now)
