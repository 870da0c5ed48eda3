"""Is the command healthy enough to be called? A breaker whose calls run in parallel.

pybreaker holds the state for the world and is the bus on which others force it: ``circuit.open()``, ``half_open()`` and
``close()`` take effect with the next decision. Its ``call()`` is never used: it holds a lock while the function runs,
counts consecutive failures only, and reads the wall clock. The window, the permits and the generation are ours. The
rates are resilience4j's: failures, and slow calls, as a share of the calls in the window.

Two locks, one order: pybreaker's, then the gate's. So the gate's is never held while pybreaker or a hook is called.
"""

from __future__ import annotations

import logging
from collections import deque
from math import inf
from random import random
from threading import Lock, get_ident
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerListener

from shadowstream.events import Listeners, Outcome, Transition
from shadowstream.gate.breaker.blame import Blame
from shadowstream.gate.breaker.windows import FAILED, SLOW, window_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybreaker import CircuitBreakerState

    from shadowstream.config.model import BreakerRule
    from shadowstream.gate.verdict import Ticket

__all__ = ["Breaker"]

log = logging.getLogger("shadowstream.gate")

# The longest a refused message waits before asking again, so that a forced close is seen within a second.
OPEN_RETRY_S: Final = 1.0
# A trial may end at any moment, and no clock says when.
TRIAL_RETRY_S: Final = 0.05

# An enum member looked up on its class is slow in CPython 3.11, and this is the path of every message.
HANDLED_OUTCOME: Final = Outcome.HANDLED
FAILED_OUTCOME: Final = Outcome.FAILED


class Breaker:
    """The breaker stage of one command in one lane.

    ``lock`` is the gate's: check, take and leave are called with it held, everything else without.
    """

    __slots__ = (
        "_blame",
        "_command",
        "_half_open_at",
        "_hooks",
        "_lane",
        "_lock",
        "_min_calls",
        "_mirror_lock",
        "_mirroring",
        "_news",
        "_open_s",
        "_opened",
        "_permits",
        "_rule",
        "_slow_call_s",
        "_slow_trials",
        "_successes",
        "_tell_lock",
        "_trial_at",
        "_trial_s",
        "_trials",
        "_unsaid",
        "_window",
        "changed",
        "circuit",
        "generation",
        "phase",
        "say",
    )

    name: ClassVar[str] = "breaker"

    def __init__(self, lane: Lane, command: str, rule: BreakerRule, hooks: Listeners, lock: Lock) -> None:
        self._lane, self._command, self._hooks, self._lock = lane, command, hooks, lock
        self.phase = STATE_CLOSED
        """``closed``, ``open`` or ``half-open``: decisions go by it; pybreaker is brought in line after each change."""
        self.generation = 0
        """Counts the changes of phase; an outcome from an older one is dropped."""
        self.changed = False
        """A change of ours has not been announced yet."""
        self._go_by(rule)
        self._window = window_of(rule)
        self._opened = 0
        """How often in a row it has opened without having closed."""
        self._open_s = rule.open_for_s
        """How long it stays open this time."""
        self._trial_at = inf
        """Monotonic second of the last trial."""
        self._half_open_at = inf
        """Monotonic second at which an open breaker half-opens; inf until the first decision after a forced open."""
        self._trials = self._successes = self._slow_trials = 0
        """Half-open calls given out and not handed back unused; those that succeeded; those that were slow."""
        self.say: Callable[[str, float], None] | None = None
        """Is told until which monotonic second it has opened, by its own judgment; None: nobody else goes by it."""
        self._unsaid = 0.0
        self._news: deque[Transition] = deque()
        self._tell_lock, self._mirror_lock = Lock(), Lock()
        self._mirroring = 0
        """The thread that is calling pybreaker for us; 0 when none is."""
        name = f"{lane}.{command}" if lane is Lane.SHADOW else command
        self.circuit = CircuitBreaker(name=name, listeners=[_Ear(self)])
        """Where others watch and force the state; nobody calls anything through it."""

    def _go_by(self, rule: BreakerRule) -> None:
        self._rule, self._blame = rule, Blame(rule)
        # As in resilience4j: a minimum above the window would never be reached.
        self._min_calls = min(rule.min_calls, rule.window) if rule.window_s is None else rule.min_calls
        self._permits = max(1, rule.half_open)
        """Calls that half-open admits."""
        self._trial_s = inf if rule.half_open_timeout_s is None else rule.half_open_timeout_s
        self._slow_call_s = inf if rule.slow_call_s is None else rule.slow_call_s

    def adopt(self, rule: BreakerRule) -> None:
        """Go on by another rule, as open or closed as it is; called with the gate's lock held.

        The window is kept unless the rule cuts another one; an open breaker opens for what the rule says now, from now.
        """
        before = self._rule
        self._go_by(rule)
        if (before.window, before.window_s) != (rule.window, rule.window_s):
            self._window = window_of(rule)
        if self.phase == STATE_OPEN:
            self._open_s = self._opened_for_s()

    def check(self, now: float) -> float:
        """Return the seconds until asking again is worthwhile (0.0: admitted); takes nothing."""
        if self.phase == STATE_CLOSED:
            return 0.0
        if self.phase == STATE_OPEN:
            # min: a forced open starts its time here, and a clock set back does not lengthen it.
            self._half_open_at = min(self._half_open_at, now + self._open_s)
            left_s = self._half_open_at - now
            if left_s > 0.0:
                return min(left_s, OPEN_RETRY_S)
            self._shift(STATE_HALF_OPEN, "open_for")
            self.changed = True
        if self._trials < self._permits:
            return 0.0
        if now < self._trial_at + self._trial_s:
            return TRIAL_RETRY_S
        # Whoever had a permit has vanished with it.
        self._reopen("trial_lost", now)
        return min(self._half_open_at - now, OPEN_RETRY_S)

    def _opened_for_s(self) -> float:
        """Return how long to stay open this time: longer each time in a row, and not the same for all who see it."""
        rule = self._rule
        # A power of hundreds of times in a row would be too large a number.
        grown_s = rule.open_for_s * rule.open_growth ** min(self._opened - 1, 100)
        early = rule.open_jitter * random()  # noqa: S311 - chance here is no cryptography
        return min(grown_s, max(rule.open_for_s, rule.open_for_max_s)) * (1 - early)

    def _reopen(self, reason: str, now: float) -> None:
        self._shift(STATE_OPEN, reason)
        self._half_open_at = self._unsaid = now + self._open_s
        self.changed = True

    def open_for(self, seconds: float, now: float) -> None:
        """Open as another process has, for what is left of its time; one that is open stays so for its own."""
        with self._lock:
            if self.phase == STATE_OPEN:
                return
            self._shift(STATE_OPEN, "fleet")
            self._open_s, self._half_open_at = seconds, now + seconds
        self.announce()

    def take(self, ticket: Ticket) -> None:
        """Take a permit when half-open, and sign the ticket with the generation."""
        ticket.generation = self.generation
        if self.phase == STATE_HALF_OPEN:
            self._trials += 1
            self._trial_at = ticket.entered_at

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        """Count how a call ended; anything but handled or failed hands the permit back and counts as neither.

        So does a failure by an error that the rule tells to ignore.
        """
        if ticket.generation != self.generation:
            return
        if outcome is HANDLED_OUTCOME:
            call = 0
        elif outcome is FAILED_OUTCOME and self._blame.falls_on(error):
            call = FAILED
        else:
            if self.phase == STATE_HALF_OPEN:
                self._trials -= 1
            return
        if now - ticket.entered_at >= self._slow_call_s:
            call |= SLOW
        reason = self._trial_ended(call) if self.phase == STATE_HALF_OPEN else self._call_ended(call, now)
        if reason == "trials_succeeded":
            self._shift(STATE_CLOSED, reason)
            self.changed = True
        elif reason:
            self._reopen(reason, now)

    def announce(self) -> None:
        """Bring pybreaker in line with the phase and tell the hooks; called with no lock held."""
        self.changed = False
        until, self._unsaid = self._unsaid, 0.0
        if until and self.say is not None:
            self.say(self._command, until)
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

    def _call_ended(self, call: int, now: float) -> str:
        """Return why the breaker must open after a call while closed, empty when it need not."""
        window = self._window
        window.record(call, now)
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
        return "trials_succeeded" if self._successes >= self._permits else ""

    def _shift(self, after: str, reason: str) -> None:
        """Change the phase and start its books anew; called with the gate's lock held."""
        if self._hooks:
            self._news.append(Transition(self._lane, self._command, self.phase, after, reason))
        self.phase = after
        self.generation += 1
        if after == STATE_OPEN:
            self._opened += 1
            self._open_s = self._opened_for_s()
        elif after == STATE_CLOSED:
            self._opened = 0
        self._half_open_at = self._trial_at = inf
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
