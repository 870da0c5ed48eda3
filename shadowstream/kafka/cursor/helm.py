"""Who polls: the owner thread, or a hand that has nothing else to do.

A message that one processor reads and another one handles travels between their caches, which costs as much as reading
it. So a topic's only hand, when it is idle, is given what was read, and the helm with it: it carries that and polls for
the next itself. When it carries for longer than a moment, the owner takes the helm back, and polling goes on
(``test_a_hand_that_carries_for_long_is_relieved_and_polling_goes_on``). So one thread polls at a time, and none that
holds the lane up. It is the leader/followers pattern with two: Schmidt et al., "Leader/Followers", PLoP 2000.

Traps:

* A hand that always finds something to carry must hear of a stop too, or a lane under load never ends
  (``test_a_stop_is_heard_while_messages_come_without_end``).
* What polling raises must end the lane, whoever polled
  (``test_what_polling_raises_ends_the_lane_though_a_hand_polled``).
* What a hand has polled is its own before it can be relieved, or the owner's next batch overtakes it
  (``test_what_a_hand_has_polled_is_not_overtaken_though_it_is_relieved_before_it_begins``).
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from shadowstream.kafka.offsets import Piece

__all__ = ["Helm"]

RELIEF_S = 0.01
"""How long a hand carries, at most, before the owner polls again."""


class Helm:
    """The right to poll, lent to a hand once."""

    def __init__(self, turn: Callable[[], list[Piece]], now: Callable[[], float], back: Event) -> None:
        self._turn = turn
        self._now = now
        self._back = back
        self._back.clear()
        self._lock = Lock()
        """Guards what follows; held for moments, never while somebody polls or carries."""
        self._lent = True
        self._carries_since: float | None = now()
        """Monotonic seconds; None while the hand polls."""
        self._failure: BaseException | None = None

    def next(self, *, free: bool) -> list[Piece]:
        """Poll, if the hand has nothing else to do; returns what it carries next, nothing when it polls no more.

        The hand calls it when all that it was given before is carried.
        """
        with self._lock:
            if not self._lent:
                return []
            self._carries_since = None
        pieces = self._polled() if free else []
        with self._lock:
            self._lent = bool(pieces)
            self._carries_since = self._now()
        if not pieces:
            self._back.set()
        return pieces

    def _polled(self) -> list[Piece]:
        try:
            return self._turn()
        except BaseException as error:  # noqa: BLE001 - the owner raises it
            self._failure = error
            return []

    def wait(self) -> None:
        """Wait until the helm is back, or take it back from a hand that carries for too long; the owner calls it.

        Raises:
            BrokerError: the client met a fatal error while the hand polled.
        """
        while not self._relieved():
            self._back.wait(RELIEF_S)
        if self._failure is not None:
            raise self._failure

    def _relieved(self) -> bool:
        with self._lock:
            if self._carries_since is not None and self._now() - self._carries_since >= RELIEF_S:
                self._lent = False
            return not self._lent
