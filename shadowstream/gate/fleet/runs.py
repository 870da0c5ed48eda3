"""Which runs may go on: a run's messages are handled while it has a lease, and a lease lapses by itself.

What is known here is good for a moment only, unless the clerk hears it again. So a kill, a lease that is over and a
Redis that is gone all end in the same place, and nothing has to arrive for it: shadow fails closed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shadowstream.gate.rate import RE_ASK_S
from shadowstream.gate.verdict import Ticket, Verdict
from shadowstream.lane import current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.events import GateLevel, Outcome
    from shadowstream.gate.verdict import Gate

__all__ = ["RunGate", "Runs"]

GOOD_S: Final = 3.0
"""How long what was heard is good: some signs of life may be lost, a Redis that is gone may not be waited for."""


class Runs:
    """The runs with a lease, as last heard; the clerk writes, decisions read."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: Mapping[str, float] = MappingProxyType({})

    def heard(self, left_s: Mapping[str, float], now: float) -> None:
        """Take in which runs have a lease, and for how much longer."""
        # Swapped whole: no decision sees half of it.
        self._until = MappingProxyType({run: now + min(left, GOOD_S) for run, left in left_s.items()})

    def may_go_on(self, run: str | None, now: float) -> bool:
        """Tell whether a run has a lease; a bare mark, which names none, goes on while any run does."""
        until = self._until
        if run is None:
            return any(now < each for each in until.values())
        return now < until.get(run, 0.0)


class RunGate:
    """A command's gate behind the question whether the run may go on."""

    __slots__ = ("_gate", "_on_refusal", "_runs")

    def __init__(self, gate: Gate, runs: Runs, on_refusal: Verdict) -> None:
        self._gate, self._runs, self._on_refusal = gate, runs, on_refusal

    def enter(self, now: float, work: Any = None) -> Ticket:  # noqa: ANN401 - whatever a gate is asked about
        """Decide on a message, a batch, or a call in the lane of this context, at monotonic second ``now``."""
        mark = getattr(work, "mark", None) or current()
        if not self._runs.may_go_on(None if mark is None else mark.run, now):
            return Ticket(self._on_refusal, RE_ASK_S, by="run", entered_at=now)
        return self._gate.enter(now, work)

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Say how admitted work ended at monotonic second ``now``, and what it failed with."""
        self._gate.leave(ticket, outcome, now, error)

    def level(self, now: float) -> GateLevel | None:
        """Return what the command's gate looks like at monotonic second ``now``."""
        return self._gate.level(now)
