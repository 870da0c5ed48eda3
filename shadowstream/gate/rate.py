"""How fast may messages go? GCRA, the leaky bucket of ITU-T I.371, and two of them in one decision.

The form used is the *continuous-state leaky bucket* (ITU-T Recommendation I.371, annex A.2): a content that drains at
the rate and gains one per message. Annex A.1 (virtual scheduling, "TAT") decides the same, but adds ``1 / rate`` to a
clock reading per message: after eleven days of uptime and at 10 000/s, each addition may be off by a millionth.
Two rates in one decision are the three colours of RFC 2698 (colour-blind): red, yellow (``soft``), green.
"""

from __future__ import annotations

from math import ceil, inf, nextafter
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

if TYPE_CHECKING:
    from shadowstream.config.model import RateRule
    from shadowstream.gate.verdict import Ticket

__all__ = ["RE_ASK_S", "Bucket", "RateLimit", "Shared", "default_burst"]

RE_ASK_S: Final = 1.0
"""Seconds after which a closed gate is worth asking again, when no clock says when it opens."""

# In messages. Forgives the rounding of one drain, so that asking after exactly `wait_s` is admitted. The content keeps
# what was forgiven, so it never adds up.
FORGIVEN: Final = 1e-9


def default_burst(rate_per_s: float) -> int:
    """Return how many messages may pass at once when nobody said: a tenth of a second's worth, at least one."""
    return max(1, ceil(rate_per_s / 10))


class Bucket:
    """One rate: in any window of w seconds at most ``rate_per_s * w + burst`` messages; rate 0 admits none."""

    __slots__ = ("_full", "_last", "_rate_per_s", "burst", "content")

    def __init__(self, rate_per_s: float, burst: int | None = None) -> None:
        self._full = rate_per_s, _burst(rate_per_s, burst)
        self._rate_per_s, self.burst = self._full
        """Messages that may pass at once, by now."""
        self.content = 0.0
        """Messages that have not drained yet; add 1.0 to take one, right after a check that returned 0.0."""
        self._last = -inf

    def check(self, now: float) -> float:
        """Return the seconds until one more message fits (0.0: now); takes nothing."""
        rate_per_s = self._rate_per_s
        if rate_per_s <= 0.0:
            return RE_ASK_S
        elapsed_s = now - self._last
        # A reading older than the last one (a slow thread, a clock set back) drains nothing and moves nothing.
        if elapsed_s > 0.0:
            self._last = now
            content = self.content - elapsed_s * rate_per_s
            self.content = content if content > 0.0 else 0.0  # noqa: FURB136 - max() costs a call
        over = self.content + 1.0 - self.burst
        if over <= FORGIVEN:
            return 0.0
        return nextafter(self._last + over / rate_per_s, inf) - now

    def tune(self, level: float, now: float) -> None:
        """Go on with this share of the rate and of the burst; until ``now`` it drained as before."""
        self._drain(now)
        rate_per_s, burst = self._full
        self._rate_per_s, self.burst = level * rate_per_s, max(level * burst, 1.0)

    def adopt(self, rate_per_s: float, burst: int | None, now: float, level: float = 1.0) -> None:
        """Go on with a share of another limit: until ``now`` it drained as before; no burst is given for the change."""
        self._drain(now)
        tokens = self.burst - self.content
        if self._rate_per_s <= 0.0:
            tokens = min(tokens, 0.0)
        self._full = rate_per_s, _burst(rate_per_s, burst)
        self.tune(level, now)
        self.content = self.burst - min(tokens, self.burst)

    def use_up(self, now: float) -> None:
        """Begin without the burst: somebody may just have used it."""
        self._drain(now)
        self.content = float(self.burst)

    def _drain(self, now: float) -> None:
        """Let drain what has drained until ``now``, at a rate of 0 nothing."""
        if self._rate_per_s > 0.0:
            self.check(now)
        else:
            self._last = max(self._last, now)

    def tokens(self, now: float) -> float:
        """Return how many messages would be admitted at once."""
        if self._rate_per_s <= 0.0:
            return 0.0
        self.check(now)
        return max(0.0, self.burst - self.content)

    def full_at(self) -> float:
        """Return the monotonic second at which the bucket forgets every message it has admitted."""
        if not self.content:
            return -inf
        return self._last + self.content / self._rate_per_s if self._rate_per_s > 0.0 else inf


def _burst(rate_per_s: float, burst: int | None) -> float:
    """Return how many may pass at once: one below one could never admit a message; whoever wants none says rate 0."""
    return default_burst(rate_per_s) if burst is None else max(1, burst)


class Shared(Protocol):
    """A hard limit that is kept elsewhere, for many processes."""

    members: int
    """Who share it, at least one."""

    def check(self, now: float) -> float:
        """Return the seconds until one more message fits (0.0: now); takes nothing."""
        ...

    def take(self) -> None:
        """Take one message, right after a check that returned 0.0."""
        ...

    def tokens(self, now: float) -> float:
        """Return how many messages would be admitted at once."""
        ...

    def adopt(self, rate_per_s: float, burst: int | None, now: float) -> None:
        """Go on with another limit from monotonic second ``now`` on."""
        ...


class RateLimit:
    """The rate stage: hard and soft limit in one decision."""

    __slots__ = ("_hard", "_level", "_longest_s", "_members", "_over_soft", "_part", "_shared", "_soft", "_soft_waits")

    name: ClassVar[str] = "rate"

    def __init__(self, rule: RateRule, shared: Shared | None = None) -> None:
        self._shared = shared
        self._level = self._part = 1.0
        self._members = 1
        """Who share the limits, when the soft one was last cut to a share of it."""
        self._hard = None if rule.hard_per_s is None or shared else Bucket(rule.hard_per_s, rule.burst)
        self._soft = None if rule.soft_per_s is None else Bucket(rule.soft_per_s, rule.burst)
        self._soft_waits = rule.on_soft == "wait"
        self._over_soft = False
        self._longest_s = inf
        """What is waited for at most: a rate that grows admits sooner than it says now."""

    def check(self, now: float) -> float:
        """Return the seconds until the message would be admitted (0.0: now); takes nothing."""
        if self._shared is not None:
            wait_s = self._checked(self._shared, now)
        else:
            wait_s = 0.0 if self._hard is None else self._hard.check(now)
        if self._soft is not None:
            soft_wait_s = self._soft.check(now)
            self._over_soft = soft_wait_s > 0.0
            if self._soft_waits and soft_wait_s > wait_s:
                wait_s = soft_wait_s
        return wait_s if wait_s <= self._longest_s else self._longest_s  # noqa: FURB136 - min() costs a call

    def _checked(self, shared: Shared, now: float) -> float:
        if self._soft is not None and shared.members != self._members:
            self._members = shared.members
            self._soft.tune(1 / self._members, now)
        return shared.check(now)

    def tune(self, level: float, now: float) -> None:
        """Open this share of both rates from monotonic second ``now`` on."""
        self._level = level
        self._open(now)

    def portion(self, part: float, now: float) -> None:
        """Go by this part of both rates from monotonic second ``now`` on: the rest is other processes'."""
        self._part = part
        self._open(now)

    def _open(self, now: float) -> None:
        level = self._level * self._part
        self._longest_s = inf if level >= 1.0 else RE_ASK_S
        for bucket in (self._hard, self._soft):
            if bucket is not None:
                bucket.tune(level, now)

    def adopt(self, rule: RateRule, shared: Shared | None, now: float) -> None:
        """Go on by another rule from monotonic second ``now`` on: a limit that is new begins without its burst."""
        self._shared, self._members = shared, 1 if shared is None else shared.members
        self._soft_waits, self._over_soft = rule.on_soft == "wait", False
        if shared is not None:
            shared.adopt(rule.hard_per_s or 0.0, rule.burst, now)
        level = self._level * self._part / self._members
        self._hard = _adopted(self._hard, None if shared else rule.hard_per_s, rule.burst, level, now)
        self._soft = _adopted(self._soft, rule.soft_per_s, rule.burst, level, now)

    def take(self, ticket: Ticket) -> None:
        """Take one message, from the hard limit alone when it is above the soft one."""
        if self._hard is not None:
            self._hard.content += 1.0
        elif self._shared is not None:
            self._shared.take()
        if self._over_soft:
            ticket.soft = True
        elif self._soft is not None:
            self._soft.content += 1.0

    def tokens(self, now: float) -> float | None:
        """Return how many messages the hard limit would admit at once, None when there is no hard limit."""
        hard = self._hard or self._shared
        return None if hard is None else hard.tokens(now)


def _adopted(
    bucket: Bucket | None, rate_per_s: float | None, burst: int | None, level: float, now: float
) -> Bucket | None:
    if rate_per_s is None:
        return None
    if bucket is None:
        # Of a rate of 0 nothing can be taken over: it begins without its burst.
        bucket = Bucket(0.0)
    bucket.adopt(rate_per_s, burst, now, level)
    return bucket
