"""Which runs have a lease, for requests that come over wires other than Kafka.

Traps:

* A server that forks its workers makes its middleware first, and threads do not come along: the first marked request
  of a forked process begins anew (``test_a_forked_process_hears_of_leases_itself``).
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from shadowstream.gate.fleet import Clerk
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.config import FleetSettings

__all__ = ["Leases"]


class Leases:
    """Hears of leases from the moment it is made; what is heard is good for three seconds."""

    def __init__(self, fleet: FleetSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet, self._clock = fleet, clock
        self._lock = threading.Lock()
        self._begin()

    def live(self, run: str | None) -> bool:
        """Tell whether a run has a lease; a bare mark, which names none, goes on while any run does."""
        if os.getpid() != self._pid:
            with self._lock:
                if os.getpid() != self._pid:
                    self._begin()
        return self._clerk.runs.may_go_on(run, self._clock())

    def close(self) -> None:
        """Hear no more."""
        self._clerk.end()

    def _begin(self) -> None:
        # What is laid over limits is for the gates to take; here only the leases count.
        self._clerk = Clerk(Lane.SHADOW, self._fleet, lay_over=lambda _: True)
        self._pid = os.getpid()
