"""What a gate hands out and what it is told back: a ticket in, an outcome out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from shadowstream.events import GateLevel, Outcome

__all__ = ["Gate", "OpenGate", "Ticket", "Verdict"]


class Verdict(StrEnum):
    """What may happen to the message at the gate."""

    ADMIT = "admit"
    WAIT = "wait"
    PARK = "park"
    SHED = "shed"


@dataclass(slots=True)
class Ticket:
    """One decision of a gate; given back to it with the outcome."""

    verdict: Verdict = Verdict.ADMIT
    wait_s: float = 0.0
    """Seconds until asking again can make a difference; 0 when admitted."""
    soft: bool = False
    """Admitted above the soft limit."""
    by: str = ""
    """The stage that refused: ``rate``, ``breaker`` or ``cap`` (a keyed limit: ``keys``); empty when admitted."""
    entered_at: float = 0.0
    """Monotonic seconds of the decision."""
    generation: int = 0
    """The breaker's generation at the decision; an outcome from an older one is dropped."""
    dry: str = ""
    """The stage in dry run that would have refused; empty when none would have."""
    left: bool = False
    """Given back already; giving it back again changes nothing."""

    @property
    def admitted(self) -> bool:
        """Tell whether the message may go on."""
        return self.verdict is Verdict.ADMIT


class Gate(Protocol):
    """May this message go on?"""

    def enter(self, now: float, work: Any = None) -> Ticket:  # noqa: ANN401 - whatever the gate was built to look at
        """Decide on some work at monotonic time ``now`` (seconds); a refusal has consumed nothing."""
        ...

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Say how an admitted message ended at monotonic time ``now``, and what it failed with."""
        ...

    def level(self, now: float) -> GateLevel | None:
        """Return what the gate looks like now, None when there is nothing to tell."""
        ...


class OpenGate:
    """The gate of a command without rules: always open, no lock, no memory."""

    __slots__ = ("_ticket",)

    def __init__(self) -> None:
        self._ticket = Ticket()

    def enter(self, now: float, work: object = None) -> Ticket:  # noqa: ARG002 - the protocol's signature
        """Admit."""
        return self._ticket

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Forget."""

    def level(self, now: float) -> GateLevel | None:  # noqa: ARG002 - the protocol's signature
        """Tell nothing."""
        return None
