"""What one process holds of a limit that many share: leases, and a share of its own while it is cut off.

A decision takes from what is here, and asks nobody. Traps:

* A process that is cut off goes by its own share only once the others know of it, or both would use it
  (``test_a_process_that_is_cut_off_waits_until_the_others_know``).
* What is leased stays good: it was taken from the bucket already
  (``test_what_was_leased_before_is_used_while_cut_off``).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from shadowstream.gate.rate import RE_ASK_S, Bucket, default_burst

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stock"]

LEASE_S: Final = 0.1
"""What one lease is worth, in seconds of a member's share; a member holds two at most."""
LARGEST: Final = 1000
HELD: Final = 2
"""Leases that are here or on their way: one is used while the next one is fetched."""
COMING_S: Final = 0.01
"""After how long to ask again when a lease is on its way: it may come at any moment."""


class Stock:
    """One limit's leases in this process: checked and taken under the gate's lock, filled by the clerk's thread."""

    __slots__ = (
        "_asked",
        "_coming_s",
        "_from_share",
        "_last_good",
        "_leases",
        "_none_until",
        "_nudge",
        "_share",
        "alone",
        "burst",
        "command",
        "members",
        "rate_per_s",
        "size",
    )

    def __init__(self, command: str, rate_per_s: float, burst: int, nudge: Callable[[], None]) -> None:
        self.command, self.rate_per_s, self.burst = command, rate_per_s, burst
        self._nudge = nudge
        self._leases: deque[list[float]] = deque()
        """Messages left and the monotonic second from which they are good; the gate takes, the clerk appends."""
        self._last_good = -inf
        """Monotonic second from which the last lease is good; the gate may have used it up since."""
        self._none_until = -inf
        """Monotonic second before which nothing is to be had."""
        self._coming_s = COMING_S
        self._share: Bucket | None = None
        self._from_share = False
        self._asked = False
        """Whether more is wanted than is here."""
        self.alone = False
        """Whether it went by its own share since the last lease."""
        self.members = 1
        """Who share the limit, as far as is known."""
        self.size = 1
        """Messages in a lease, for now."""

    def check(self, now: float) -> float:
        """Return the seconds until one more message is admitted (0.0: now); takes nothing."""
        leases = self._leases
        if leases:
            wait_s = leases[0][1] - now
            if wait_s <= 0.0:
                return 0.0
        elif self.rate_per_s <= 0.0:
            return RE_ASK_S
        else:
            wait_s = max(self._none_until - now, self._coming_s)
            self._ask()
        share = self._share
        if share is None:
            return wait_s
        share_s = share.check(now)
        self._from_share = share_s <= 0.0
        return min(wait_s, share_s) if leases else min(share_s, RE_ASK_S)

    def take(self) -> None:
        """Take the message that was checked."""
        if self._from_share:
            self._from_share = False
            if self._share is not None:
                self._share.content += 1.0
            return
        head = self._leases[0]
        head[0] -= 1.0
        if head[0] < 1.0:
            self._leases.popleft()
            self._ask()

    def tokens(self, now: float) -> float:
        """Return how many messages would be admitted at once."""
        share = self._share
        alone = 0.0 if share is None else share.tokens(now)
        return alone + sum(left for left, good_from in list(self._leases) if good_from <= now)

    def adopt(self, rate_per_s: float, burst: int | None, now: float) -> None:
        """Go on with another limit from monotonic second ``now`` on; what is leased stays good, unless that is 0."""
        self.rate_per_s, self.burst = rate_per_s, burst or default_burst(rate_per_s)
        if rate_per_s <= 0.0:
            self._leases.clear()
        if self._share is not None:
            self._share.adopt(rate_per_s / self.members, max(self.burst // self.members, 1), now)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._nudge()

    # The clerk's side.

    def wanted(self, now: float) -> int:
        """Return how many messages to lease now: one lease is used while the next one is fetched."""
        return 0 if self.again_s(now) > 0.0 else self.size

    def ahead_s(self, now: float) -> float:
        """Return the seconds until the last lease is good."""
        return max(self._last_good - now, 0.0)

    def again_s(self, now: float) -> float:
        """Return the seconds until it wants something that it cannot have now."""
        waits = self._asked and len(self._leases) < HELD and self.rate_per_s > 0.0
        return max(self._none_until - now, 0.0) if waits else inf

    def leased(self, messages: int, good_from: float, members: int) -> None:
        """Take a lease in, good from a monotonic second on; none was to be had before then: 0 messages."""
        self.go_together()
        self.alone, self.members = False, max(members, 1)
        self.size = max(1, min(int(LEASE_S * self.rate_per_s / self.members), LARGEST))
        if messages:
            self._leases.append([float(messages), good_from])
            self._last_good = good_from
        else:
            self._none_until = good_from
        self._asked = len(self._leases) < HELD

    def go_alone(self, now: float) -> None:
        """Go by a share of the rate, without its burst at first: somebody may just have used it."""
        if self._share is None:
            self.alone = True
            share = Bucket(self.rate_per_s / self.members, max(self.burst // self.members, 1))
            share.use_up(now)
            self._share = share

    def go_together(self) -> None:
        """Go by what is leased: somebody answers again."""
        self._share, self._coming_s = None, COMING_S

    def stand_still(self) -> None:
        """Admit nothing beyond what is leased: nobody knows what the others do."""
        self._share, self._coming_s = None, RE_ASK_S
