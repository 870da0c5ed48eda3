"""Fetches leases from Redis, and hears which runs may go on, in a thread of its own: no decision ever waits for it.

It is the only one that talks to Redis. Whatever Redis does (is dead, hangs, is loading, is read-only, has forgotten the
script or everything), it is one thing here: not reachable. Then each member goes by its own share of each limit, from
when the others have noticed its silence until they have forgotten it, and then by nothing. Traps:

* The client's own timeouts are seconds and its retries are ten: a server that accepts and says nothing would hold a
  call for a minute (``test_a_server_that_says_nothing_is_given_up_after_the_timeout``).
* Only what changes is logged: a dead Redis is asked again each second
  (``test_a_dead_redis_is_logged_once_and_not_on_every_try``).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from shadowstream.gate.fleet.layer import DOCUMENT, parsed
from shadowstream.gate.fleet.places import Places, connected, script
from shadowstream.gate.fleet.runs import Runs
from shadowstream.gate.fleet.stock import Stock
from shadowstream.gate.fleet.trips import Trips
from shadowstream.gate.rate import default_burst

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shadowstream.config.model import FleetSettings, RateRule
    from shadowstream.lane import Lane

    LayOver = Callable[[Mapping[str, object] | None], bool]

__all__ = ["Clerk"]

log = logging.getLogger("shadowstream.gate")

LEASE: Final = "lease.lua"
BEAT: Final = "beat.lua"
TRIP: Final = "trip.lua"
BEAT_S: Final = 0.5
"""How often a sign of life is given."""
SILENT_S: Final = 2.0
"""After how long without one the others leave a member its share."""
FORGOTTEN_S: Final = 60.0
"""After how long they take it again, and the member goes by nothing."""
AHEAD_S: Final = 1.0
"""How far ahead leases are reserved."""
AGAIN_S: Final = 0.01
"""After how long to ask again when nothing was free."""
LONGEST_AGAIN_S: Final = 1.0
ARMED_S: Final = 1.0
"""By how much a lease must end later to be a new one: two clocks are compared, and an answer takes its time."""
US: Final = 1_000_000


class Clerk:
    """Keeps one lane's stocks filled and its runs known; begins with the object."""

    def __init__(
        self,
        lane: Lane,
        fleet: FleetSettings,
        now: Callable[[], float] = time.monotonic,
        *,
        lay_over: LayOver | None = None,
        armed: Callable[[], None] | None = None,
    ) -> None:
        self._lane, self._fleet, self._now = lane, fleet, now
        self._member = uuid4().hex
        self._client = connected(fleet)
        self._scripts = {name: script(self._client, name) for name in (LEASE, BEAT, TRIP)}
        self._places = Places(fleet, lane)
        self.runs = Runs()
        """The runs that may go on."""
        self._stocks: dict[str, Stock] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        self.trips = Trips(self._wake.set)
        """The breakers that open together."""
        self._beat_at = 0.0
        self._kills = 0
        """The last kill that was seen."""
        self.lay_over = lay_over
        """Takes what is laid over the configuration, and tells whether they are good; None: nobody is there yet."""
        self._armed = armed
        """Is told when a run was armed."""
        self._ends: Mapping[str, float] = {}
        """When the leases end, by the last sign of life."""
        self._seen_version: str | None = None
        self._laid = False
        """Whether some document, or the word that there is none, was ever good."""
        self.members = 0
        """As many as were known at the last answer; 0: there was none."""
        self._heard_at = 0.0
        self.away = False
        """Whether nobody answers."""
        self._again_s = AGAIN_S
        self._thread = threading.Thread(target=self._run, name=f"{lane}-clerk", daemon=True)
        self._thread.start()

    def stock(self, command: str, rule: RateRule) -> Stock:
        """Return what this process holds of a command's hard rate."""
        known = self._stocks.get(command)
        if known is None:
            rate_per_s = rule.hard_per_s or 0.0
            known = Stock(command, rate_per_s, rule.burst or default_burst(rate_per_s), self._wake.set)
            self._stocks = {**self._stocks, command: known}
        return known

    def end(self) -> None:
        """Stop fetching and say goodbye, so that nobody waits for this member to be forgotten."""
        self._ended.set()
        self._wake.set()
        self._thread.join(10 * self._fleet.timeout_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - the client raises of many kinds, and all mean that nobody answers
                self._unanswered(error)
            self._wake.wait(self._rest_s())
            self._wake.clear()
        self._leave()

    def _work(self) -> None:
        """Do what is due: give a sign of life, by which the others count this member, and fetch what is wanted."""
        now = self._now()
        if now >= self._beat_at:
            self._beat()
        self._say_breakers(now)
        for stock in self._stocks.values():
            if wanted := stock.wanted(now):
                self._fetch(stock, wanted)

    def _rest_s(self) -> float:
        """Return for how long nothing needs to be done, unless somebody wants something."""
        now = self._now()
        if self.away:
            # Nobody's wish makes a dead server answer sooner.
            self._ended.wait(self._again_s)
            self._beat_at = 0.0
            return 0.0
        return min([max(self._beat_at - now, 0.0), *(stock.again_s(now) for stock in self._stocks.values())])

    def _fetch(self, stock: Stock, wanted: int) -> None:
        granted, wait_us, members = self._call(
            LEASE,
            keys=[self._places.rate(stock.command), self._places.members],
            args=[
                *(repr(stock.rate_per_s), stock.burst, wanted),
                *(int(each * US) for each in (AHEAD_S, SILENT_S, FORGOTTEN_S)),
                int(stock.alone),
                int(stock.ahead_s(self._now()) * US),
            ],
        )
        self._answered(int(members))
        stock.leased(int(granted), self._heard_at + int(wait_us) / US, self.members)

    def _beat(self) -> None:
        places = self._places
        members, kills, version, opened, *told = self._call(
            BEAT,
            keys=[places.members, places.runs, places.kills, places.seen, places.live, places.breakers],
            args=[self._member, int(FORGOTTEN_S * US), self._kills],
        )
        self._answered(int(members))
        breakers, told = told[: 3 * int(opened)], told[3 * int(opened) :]
        self._hear_breakers(breakers[::3], breakers[1::3], breakers[2::3])
        if not self._fleet.live or self._goes_by(version):
            runs = {run: int(left_us) / US for run, left_us in zip(told[::2], told[1::2], strict=True)}
            self.runs.heard(runs, self._heard_at)
            self._look_who_was_armed(runs)
        # Whoever killed waits to hear that it was seen.
        self._beat_at = self._heard_at + (BEAT_S if int(kills) == self._kills else 0.0)
        self._kills = int(kills)

    def _hear_breakers(self, commands: list[str], moments: list[str], left_us: list[str]) -> None:
        moment = {command: int(each) for command, each in zip(commands, moments, strict=True)}
        left_s = {command: int(each) / US for command, each in zip(commands, left_us, strict=True)}
        self.trips.hear(moment, left_s, self._heard_at)

    def _say_breakers(self, now: float) -> None:
        """Tell the others which breakers have opened here; what cannot be told now is told later, while it is so."""
        for command, until in self.trips.take().items():
            if until <= now:
                continue
            try:
                args: list[object] = [command, int((until - now) * US), int(FORGOTTEN_S * US)]
                self._call(TRIP, keys=[self._places.breakers], args=args)
            except Exception:
                self.trips.keep(command, until)
                raise

    def _look_who_was_armed(self, left_s: Mapping[str, float]) -> None:
        """Tell when a run was given a lease, or a longer one: somebody has looked."""
        ends = {run: self._heard_at + seconds for run, seconds in left_s.items()}
        anew = any(end > self._ends.get(run, 0.0) + ARMED_S for run, end in ends.items())
        self._ends = ends
        if anew and self._armed is not None:
            self._armed()

    def _goes_by(self, version: str) -> bool:
        """Tell whether limits are gone by that were good at some time; without, no run goes on.

        A process that begins must not go by the file alone where somebody has laid lower limits over it.
        """
        lost = not version and self._seen_version
        if version != self._seen_version and not lost and self.lay_over is not None:
            document = self._client.hget(self._places.live, DOCUMENT)
            self._laid = self._lay_over(document, self.lay_over) or self._laid
            self._seen_version = version
        return self._laid

    @staticmethod
    def _lay_over(document: str | None, lay_over: LayOver) -> bool:
        try:
            return lay_over(parsed(document))
        except ValueError as error:
            log.error("live_layer_unreadable error=%s: run `shadowstream limit --clear`", error)  # noqa: TRY400 - the line says it all
            return False

    def _call(self, name: str, keys: list[str], args: list[object]) -> list[str]:
        """Call one of our scripts; nobody else talks to Redis."""
        answer: list[str] = self._scripts[name](keys=keys, args=args)
        return answer

    def _answered(self, members: int) -> None:
        self._heard_at = self._now()
        self.members = members
        if self.away:
            self.away, self._again_s = False, AGAIN_S
            log.warning("limits_shared_again lane=%s members=%d", self._lane, members)
            for each in self._stocks.values():
                each.go_together()

    def _unanswered(self, error: Exception) -> None:
        now = self._now()
        self._again_s = min(2 * self._again_s, LONGEST_AGAIN_S)
        if not self.away:
            self.away = True
            log.error(
                "limits_not_shared lane=%s members=%d error=%r: each goes by its share until Redis answers, for %d s at"
                " most; see to `fleet: url`",
                *(self._lane, self.members, error, FORGOTTEN_S),
            )
        silent_s = now - self._heard_at
        for stock in self._stocks.values():
            if self.members and SILENT_S < silent_s < FORGOTTEN_S:
                stock.go_alone(now)
            else:
                stock.stand_still()

    def _leave(self) -> None:
        try:
            self._client.zrem(self._places.members, self._member)
        except Exception as error:  # noqa: BLE001 - as above
            log.info("fleet_not_left lane=%s error=%r", self._lane, error)
