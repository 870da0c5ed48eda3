"""Is the command healthy enough to be called? A breaker whose calls run in parallel.

pybreaker holds the state for the world and is the bus on which others force it: ``circuit.open()``, ``half_open()`` and
``close()`` take effect with the next decision. Its ``call()`` is never used: it holds a lock while the function runs,
counts consecutive failures only, and reads the wall clock. The window, the permits and the generation are ours. The
rates are those of resilience4j's count-based window: failures, and slow calls, as a share of the last ``window`` calls.

Two locks, one order: pybreaker's, then the gate's. So the gate's is never held while pybreaker or a hook is called.
"""

from __future__ import annotations

import logging
from collections import deque
from math import inf
from threading import Lock, get_ident
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerListener

from shadowstream.events import Listeners, Outcome, Transition
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from pybreaker import CircuitBreakerState

    from shadowstream.config.model import BreakerRule
    from shadowstream.gate.verdict import Ticket

__all__ = ["Breaker", "Window"]

log = logging.getLogger("shadowstream.gate")

# The longest a refused message waits before asking again, so that a forced close is seen within a second.
OPEN_RETRY_S: Final = 1.0
# A trial may end at any moment, and no clock says when.
TRIAL_RETRY_S: Final = 0.05

# The bits of a call in the window.
FAILED: Final = 1
SLOW: Final = 2

# An enum member looked up on its class is slow in CPython 3.11, and this is the path of every message.
HANDLED_OUTCOME: Final = Outcome.HANDLED
FAILED_OUTCOME: Final = Outcome.FAILED


class Window:
    """The last ``size`` calls: which failed, and which were slow."""

    __slots__ = ("_at", "_ring", "calls", "failures", "slows")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self.clear()

    def clear(self) -> None:
        """Forget every call."""
        self._ring[:] = bytes(len(self._ring))
        self._at = self.calls = self.failures = self.slows = 0

    def record(self, call: int) -> None:
        """Note one call (0, or FAILED and SLOW added up); the oldest goes when the window is full."""
        ring, at = self._ring, self._at
        gone = ring[at]
        ring[at] = call
        self._at = at + 1 if at + 1 < len(ring) else 0
        if self.calls < len(ring):
            self.calls += 1
        if call or gone:
            self.failures += (call & FAILED) - (gone & FAILED)
            self.slows += (call >> 1) - (gone >> 1)


class Breaker:
    """The breaker stage of one command in one lane.

    ``lock`` is the gate's: check, take and leave are called with it held, everything else without.
    """

    __slots__ = (
        "_command",
        "_half_open_at",
        "_hooks",
        "_lane",
        "_lock",
        "_min_calls",
        "_mirror_lock",
        "_mirroring",
        "_news",
        "_permits",
        "_rule",
        "_slow_call_s",
        "_slow_trials",
        "_successes",
        "_tell_lock",
        "_trials",
        "_window",
        "changed",
        "circuit",
        "generation",
        "phase",
    )

    name: ClassVar[str] = "breaker"

    def __init__(self, lane: Lane, command: str, rule: BreakerRule, hooks: Listeners, lock: Lock) -> None:
        self._lane, self._command, self._rule, self._hooks, self._lock = lane, command, rule, hooks, lock
        self.phase = STATE_CLOSED
        """``closed``, ``open`` or ``half-open``: decisions go by it; pybreaker is brought in line after each change."""
        self.generation = 0
        """Counts the changes of phase; an outcome from an older one is dropped."""
        self.changed = False
        """A change of ours has not been announced yet."""
        self._half_open_at = inf
        """Monotonic second at which an open breaker half-opens; inf until the first decision after a forced open."""
        self._window = Window(max(1, rule.window))
        # As in resilience4j: a minimum above the window would never be reached.
        self._min_calls = min(rule.min_calls, rule.window)
        self._permits = max(1, rule.half_open)
        """Calls that half-open admits."""
        self._trials = self._successes = self._slow_trials = 0
        """Half-open calls given out and not handed back unused; those that succeeded; those that were slow."""
        self._slow_call_s = inf if rule.slow_call_s is None else rule.slow_call_s
        self._news: deque[Transition] = deque()
        self._tell_lock, self._mirror_lock = Lock(), Lock()
        self._mirroring = 0
        """The thread that is calling pybreaker for us; 0 when none is."""
        name = f"{lane}.{command}" if lane is Lane.SHADOW else command
        self.circuit = CircuitBreaker(name=name, listeners=[_Ear(self)])
        """Where others watch and force the state; nobody calls anything through it."""

    def check(self, now: float) -> float:
        """Return the seconds until asking again is worthwhile (0.0: admitted); takes nothing."""
        if self.phase == STATE_CLOSED:
            return 0.0
        if self.phase == STATE_OPEN:
            # min: a forced open starts its time here, and a clock set back does not lengthen it.
            self._half_open_at = min(self._half_open_at, now + self._rule.open_for_s)
            left_s = self._half_open_at - now
            if left_s > 0.0:
                return min(left_s, OPEN_RETRY_S)
            self._shift(STATE_HALF_OPEN, "open_for")
            self.changed = True
        return 0.0 if self._trials < self._permits else TRIAL_RETRY_S

    def take(self, ticket: Ticket) -> None:
        """Take a permit when half-open, and sign the ticket with the generation."""
        ticket.generation = self.generation
        if self.phase == STATE_HALF_OPEN:
            self._trials += 1

    def leave(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """Count how a call ended; anything but handled or failed hands the permit back and counts as neither."""
        if ticket.generation != self.generation:
            return
        if outcome is HANDLED_OUTCOME:
            call = 0
        elif outcome is FAILED_OUTCOME:
            call = FAILED
        else:
            if self.phase == STATE_HALF_OPEN:
                self._trials -= 1
            return
        if now - ticket.entered_at >= self._slow_call_s:
            call |= SLOW
        reason = self._trial_ended(call) if self.phase == STATE_HALF_OPEN else self._call_ended(call)
        if reason:
            self._shift(STATE_CLOSED if reason == "trials_succeeded" else STATE_OPEN, reason)
            self._half_open_at = now + self._rule.open_for_s
            self.changed = True

    def announce(self) -> None:
        """Bring pybreaker in line with the phase and tell the hooks; called with no lock held."""
        self.changed = False
        self._mirror()
        self._tell()

    def heard(self, state: str) -> None:
        """Follow pybreaker when somebody else changed its state; called by its listener, under its lock."""
        if self._mirroring == get_ident():
            self._mirroring = 0
            return
        with self._lock:
            self._shift(state, "forced")
        self._tell()

    def _call_ended(self, call: int) -> str:
        """Return why the breaker must open after a call while closed, empty when it need not."""
        window = self._window
        window.record(call)
        failures, slows = window.failures, window.slows
        if not (failures or slows) or window.calls < self._min_calls:
            return ""
        # Divided, not multiplied: 7 / 100 is 0.07, but 0.07 * 100 is more than 7.
        if failures and failures / window.calls >= self._rule.failure_rate:
            return "failure_rate"
        return "slow_rate" if slows and slows / window.calls >= self._rule.slow_rate else ""

    def _trial_ended(self, call: int) -> str:
        """Return why half-open is over after a trial, empty when it is not."""
        if call & FAILED:
            return "trial_failed"
        self._successes += 1
        self._slow_trials += call >> 1
        if self._slow_trials and self._slow_trials / self._permits >= self._rule.slow_rate:
            return "trial_slow"
        return "trials_succeeded" if self._successes == self._permits else ""

    def _shift(self, after: str, reason: str) -> None:
        """Change the phase and start its books anew; called with the gate's lock held."""
        if self._hooks:
            self._news.append(Transition(self._lane, self._command, self.phase, after, reason))
        self.phase = after
        self.generation += 1
        self._half_open_at = inf
        self._trials = self._successes = self._slow_trials = 0
        self._window.clear()

    def _mirror(self) -> None:
        """Call pybreaker until its state is our phase; a thread that finds another at it leaves the rest to it."""
        while self.circuit.current_state != self.phase and self._mirror_lock.acquire(blocking=False):
            self._mirroring = get_ident()
            try:
                _CHANGES[self.phase](self.circuit)
            except Exception:
                # Somebody's own pybreaker listener raised. Decisions go by the phase, so nothing else is lost.
                log.exception("circuit_listener_failed lane=%s command=%s", self._lane, self._command)
                return
            finally:
                self._mirroring = 0
                self._mirror_lock.release()

    def _tell(self) -> None:
        """Tell the hooks what changed, in order; a thread that finds another at it leaves the rest to it."""
        while self._news and self._tell_lock.acquire(blocking=False):
            try:
                while self._news:
                    self._hooks.on(self._news.popleft())
            finally:
                self._tell_lock.release()


class _Ear(CircuitBreakerListener):
    """Hears pybreaker change; it says so before it stores the new state, so the state comes from the argument."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(
        self,
        cb: CircuitBreaker,  # noqa: ARG002 - pybreaker's signature
        old_state: CircuitBreakerState | None,  # noqa: ARG002 - pybreaker's signature
        new_state: CircuitBreakerState,
    ) -> None:
        self._breaker.heard(new_state.name)


_CHANGES: Final = MappingProxyType(
    {
        STATE_CLOSED: CircuitBreaker.close,
        STATE_HALF_OPEN: CircuitBreaker.half_open,
        STATE_OPEN: CircuitBreaker.open,
    }
)
