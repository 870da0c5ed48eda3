"""Calls of sync handlers that are past their command's timeout: Python cannot stop them, so somebody has to say so.

A call is noted by the hand that makes it, and looked at by the owner thread, which never hangs with it. Traps:

* The gate is told at the deadline: a call that never returns would hold its slot, and a half-open breaker its trial,
  for good (``test_a_call_that_never_returns_has_failed_at_the_gate_at_its_deadline``).
* A slow dependency makes every call overdue: each is counted, and named once, in at most one line each ten seconds
  (``test_many_overdue_calls_are_one_line``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shadowstream.events import Outcome, Overdue, OverdueCalls
from shadowstream.kafka.clients import Throttle, logger_of
from shadowstream.kafka.message import first_of
from shadowstream.kafka.offsets import offset_of

if TYPE_CHECKING:
    from shadowstream.events import Listeners
    from shadowstream.gate import Gate, Ticket
    from shadowstream.kafka.engine.binding import Binding
    from shadowstream.kafka.message import Batch, Message

__all__ = ["Call", "Watch"]

MOST_NAMED: Final = 10
FAILED: Final = Outcome.FAILED


class Call:
    """One call of a handler that is under way."""

    __slots__ = ("due", "gate", "overdue", "ticket", "work")

    def __init__(self, work: Message | Batch, gate: Gate, ticket: Ticket, due: float) -> None:
        self.work = work
        self.gate = gate
        self.ticket = ticket
        self.due = due
        """Monotonic seconds."""
        self.overdue = False
        """Whether that was said."""


class Watch:
    """Knows which calls of one topic's handler are under way in one lane, and says which are overdue."""

    def __init__(self, binding: Binding, timeout_s: float, listeners: Listeners) -> None:
        self._binding = binding
        self._timeout_s = timeout_s
        self._listeners = listeners
        # Each operation on it is atomic: hands put and pop, the owner thread copies.
        self._calls: dict[Call, None] = {}
        self._overdue = 0
        self._unsaid: list[str] = []
        self._throttle = Throttle(logger_of("engine").warning)

    def begun(self, work: Message | Batch, gate: Gate, ticket: Ticket, now: float) -> Call:
        """Note a call that a gate let in at monotonic second ``now``."""
        call = Call(work, gate, ticket, now + self._timeout_s)
        self._calls[call] = None
        return call

    def ended(self, call: Call) -> None:
        """Take note that a call has returned."""
        del self._calls[call]

    def look(self, now: float) -> None:
        """Say what is overdue at monotonic second ``now``; the owner thread calls it."""
        late = [call for call in list(self._calls) if call.due <= now]
        for call in late:
            if not call.overdue:
                self._fell_due(call, now)
        if len(late) != self._overdue:
            self._overdue = len(late)
            self._listeners.on(OverdueCalls(self._binding.lane, self._binding.topic.name, len(late)))
        if self._unsaid and self._throttle.due("overdue"):
            self._say(len(late))

    def _fell_due(self, call: Call, now: float) -> None:
        call.overdue = True
        binding = self._binding
        call.gate.leave(call.ticket, FAILED, now)
        first = first_of(call.work)
        self._unsaid.append(str(first))
        self._listeners.on(
            Overdue(binding.lane, binding.topic.name, binding.command, first.raw.partition() or 0, offset_of(first.raw))
        )

    def _say(self, under_way: int) -> None:
        named, self._unsaid = self._unsaid, []
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        logger_of("engine").warning(
            "handler_overdue lane=%s topic=%s command=%s timeout_s=%g under_way=%d messages=%s%s: a sync handler cannot"
            " be stopped and holds its key; give its calls timeouts of their own, or make it async",
            *(self._binding.lane, self._binding.topic.name, self._binding.command, self._timeout_s, under_way),
            *(",".join(named[:MOST_NAMED]), more),
        )
