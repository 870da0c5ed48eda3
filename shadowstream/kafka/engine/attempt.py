"""One attempt at a message: ask the gate, run the handler in its lane, tell the gate.

Which attempt it is is chosen when an engine is built: no message pays for a gate, a clock or a loop that nobody needs.
An attempt of a sync handler is a call that returns how it ended; one of an async handler is a coroutine. Traps:

* A handler may raise anything, SystemExit too (``test_a_handler_that_raises_anything_is_recorded_and_the_next_runs``).
* A sync handler that gives back a coroutine has done nothing yet: that is a failure, not a success
  (``test_a_sync_handler_that_returns_an_awaitable_has_failed``).
"""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shadowstream.events import Outcome
from shadowstream.gate import OpenGate, Ticket, Verdict
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shadowstream.kafka.engine.binding import Binding, Handler
    from shadowstream.kafka.engine.overdue import Watch
    from shadowstream.kafka.engine.tally import Tally
    from shadowstream.kafka.message import Batch, Message

    Work = Message | Batch
    Result = Outcome | Ticket

__all__ = ["Attempts", "is_async"]

# An enum member looked up on its class costs more than all else that is done for a normal message.
HANDLED: Final = Outcome.HANDLED
FAILED: Final = Outcome.FAILED
CANCELLED: Final = Outcome.CANCELLED
EXPIRED: Final = Outcome.EXPIRED
ADMIT: Final = Verdict.ADMIT
WAIT: Final = Verdict.WAIT


def is_async(handler: Handler) -> bool:
    """Tell whether calling a handler gives a coroutine: an ``async def``, or an object with an async ``__call__``."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004 - asked what kind it is, not whether it is there


class Attempts:
    """Runs one binding's handler once for each message it is given."""

    def __init__(
        self, binding: Binding, announce: Callable[[Tally], None], watch: Watch | None, *, timed: bool
    ) -> None:
        self._gate = binding.gate_of()
        self._handler = binding.handler
        self._timeout_s = binding.timeout_s
        self._handled: Any = binding.handler if binding.timeout_s is None else self._in_time
        self._announce = announce
        self._watch = watch
        self._once = self._run_in_lane if binding.lane is Lane.SHADOW else self._run
        self.attempt = self._chosen(binding, timed=timed)

    def _chosen(self, binding: Binding, *, timed: bool) -> Callable[[Work, Tally], Result | Awaitable[Result]]:
        if is_async(binding.handler):
            return self._awaited
        if self._watch is not None:
            return partial(self._watched, self._watch)
        if not isinstance(self._gate, OpenGate):
            return self._gated
        return self._timed if timed else self._once

    def _run(self, work: Work, tally: Tally) -> Outcome:
        """Run the handler once and take note of whatever it raises; nothing here wants to know the time."""
        try:
            returned = self._handler(work)
            if returned is not None and inspect.isawaitable(returned):
                _refuse(returned)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is recorded, and the lane goes on
            tally.error = error
            return CANCELLED if isinstance(error, asyncio.CancelledError) else FAILED
        return HANDLED

    def _run_in_lane(self, work: Work, tally: Tally) -> Outcome:
        with entered(work.mark):
            return self._run(work, tally)

    def _timed(self, work: Work, tally: Tally) -> Outcome:
        """Run the handler once, without a gate, and note how long it took."""
        began = self._began(tally)
        outcome = self._once(work, tally)
        tally.seconds.append(tally.tick() - began)
        return outcome

    def _gated(self, work: Work, tally: Tally) -> Result:
        """Ask the gate, run the handler once, tell the gate; a refusal comes back as its ticket."""
        ticket = self._gate.enter(tally.now, work)
        if ticket.verdict is not ADMIT:
            return ticket
        outcome = self._timed(work, tally)
        self._gate.leave(ticket, outcome, tally.now, tally.error)
        if ticket.soft or ticket.dry:
            tally.note(ticket)
        return outcome

    def _watched(self, watch: Watch, work: Work, tally: Tally) -> Result:
        """Do the same where somebody is to say when the call takes too long."""
        ticket = self._gate.enter(tally.now, work)
        if ticket.verdict is not ADMIT:
            return ticket
        call = watch.begun(work, self._gate, ticket, tally.now)
        outcome = self._timed(work, tally)
        watch.ended(call)
        self._gate.leave(ticket, outcome, tally.now, tally.error)
        if ticket.soft or ticket.dry:
            tally.note(ticket)
        return outcome

    async def _awaited(self, work: Work, tally: Tally) -> Result:
        """Do the same for an async handler, which has until its command's timeout."""
        ticket = self._gate.enter(tally.tick(), work)
        if ticket.verdict is not ADMIT:
            return ticket
        began = self._began(tally)
        outcome = await self._run_async(work, tally)
        tally.seconds.append(tally.tick() - began)
        self._gate.leave(ticket, outcome, tally.now, tally.error)
        if ticket.soft or ticket.dry:
            tally.note(ticket)
        return outcome

    async def _run_async(self, work: Work, tally: Tally) -> Outcome:
        try:
            with entered(work.mark):
                await self._handled(work)
        except BaseException as error:  # noqa: BLE001 - as above
            tally.error = error
            return CANCELLED if isinstance(error, asyncio.CancelledError) else FAILED
        return HANDLED

    async def _in_time(self, work: Work) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._handler(work)  # type: ignore[misc] # `is_async` was asked

    def _began(self, tally: Tally) -> float:
        if tally.now >= tally.announce_at:
            self._announce(tally)
        return tally.now


def _refuse(returned: object) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
    raise TypeError(
        "the handler is not async, but returned an awaitable that nobody awaits; make it `async def`, or return nothing"
    )
