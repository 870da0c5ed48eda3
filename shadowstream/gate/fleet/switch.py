"""Arms, disarms and kills: what somebody at a terminal says to every process of the shadow lane."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from shadowstream.gate.fleet.clerk import SILENT_S, US
from shadowstream.gate.fleet.places import Places, answered, connected, patient
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.config.model import FleetSettings

__all__ = ["Killed", "Switch"]

SEEN_S: Final = 5.0
"""How long a kill waits until every process has said that it has seen it."""
LOOK_S: Final = 0.02


class Killed(NamedTuple):
    """What a kill came to."""

    members: int
    """Processes that were there."""
    silent: int
    """How many of them have not said that they have seen it: they stop by themselves."""
    seconds: float
    """Until the last of the others had seen it."""


class Switch:
    """Says which runs of one service may go on."""

    def __init__(self, fleet: FleetSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = connected(patient(fleet))
        self._places = Places(fleet, Lane.SHADOW)
        self._clock = clock

    def arm(self, run: str, seconds: float) -> None:
        """Give a run a lease from now on; it replaces the one it has.

        Raises:
            BrokerError: Redis does not answer.
        """
        with answered():
            self._client.hset(self._places.runs, run, self._now_us() + int(seconds * US))

    def disarm(self, run: str) -> bool:
        """Take a run's lease back; False when it has none.

        Raises:
            BrokerError: Redis does not answer.
        """
        with answered():
            return bool(self._client.hdel(self._places.runs, run))

    def armed(self) -> dict[str, float]:
        """Return the runs that have a lease, and for how many seconds more.

        Raises:
            BrokerError: Redis does not answer.
        """
        with answered():
            now, runs = self._now_us(), self._client.hgetall(self._places.runs)
        left = {run: (int(until) - now) / US for run, until in sorted(runs.items())}
        return {run: seconds for run, seconds in left.items() if seconds > 0}

    def kill(self) -> Killed:
        """Take every run's lease back, and wait until every process has seen it.

        Raises:
            BrokerError: Redis does not answer.
        """
        with answered():
            began = self._clock()
            there = self._heard()
            pipe = self._client.pipeline(transaction=True)
            pipe.delete(self._places.runs)
            pipe.incr(self._places.kills)
            kill = int(pipe.execute()[1])
            while (left := self._not_seen(there, kill)) and self._clock() < began + SEEN_S:
                time.sleep(LOOK_S)
            return Killed(len(there), len(left), self._clock() - began)

    def _heard(self) -> set[str]:
        silent_us = self._now_us() - int(SILENT_S * US)
        return set(self._client.zrangebyscore(self._places.members, silent_us, "+inf"))

    def _not_seen(self, members: set[str], kill: int) -> set[str]:
        seen = self._client.hgetall(self._places.seen)
        still = set(self._client.zrange(self._places.members, 0, -1))
        return {each for each in members & still if int(seen.get(each, 0)) < kill}

    def _now_us(self) -> int:
        seconds, us = self._client.time()
        return int(seconds) * US + int(us)
