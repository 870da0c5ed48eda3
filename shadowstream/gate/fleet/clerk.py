"""Fetches leases from Redis, in a thread of its own: no decision ever waits for it.

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
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from shadowstream.errors import SetupError
from shadowstream.gate.fleet.stock import Stock
from shadowstream.gate.rate import default_burst

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.config.model import FleetSettings, RateRule
    from shadowstream.lane import Lane

__all__ = ["Clerk"]

log = logging.getLogger("shadowstream.gate")

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
US: Final = 1_000_000


class Clerk:
    """Keeps the stocks of one lane's shared limits filled; begins with the first of them."""

    def __init__(self, lane: Lane, fleet: FleetSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._lane, self._fleet, self._now = lane, fleet, now
        self._member = uuid4().hex
        self._script = _script(fleet)
        self._place = f"{{{fleet.service}.{lane}}}"
        """In braces, so that a Redis Cluster keeps all of it in one slot."""
        self._stocks: dict[str, Stock] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        self._members = 0
        """As many as were known at the last answer; 0: there was none."""
        self._heard_at = 0.0
        self._away = False
        self._again_s = AGAIN_S
        self._thread = threading.Thread(target=self._run, name=f"{lane}-clerk", daemon=True)
        self._thread.start()

    def stock(self, command: str, rule: RateRule) -> Stock:
        """Return what this process holds of a command's hard rate."""
        rate_per_s = rule.hard_per_s or 0.0
        made = Stock(command, rate_per_s, rule.burst or default_burst(rate_per_s), self._wake.set)
        self._stocks = {**self._stocks, command: made}
        return made

    def end(self) -> None:
        """Stop fetching and say goodbye, so that nobody waits for this member to be forgotten."""
        self._ended.set()
        self._wake.set()
        self._thread.join(10 * self._fleet.timeout_s)

    def _run(self) -> None:
        beat_at = 0.0
        while not self._ended.is_set():
            now = self._now()
            wanting = [(stock, wanted) for stock in self._stocks.values() if (wanted := stock.wanted(now))]
            if wanting or now >= beat_at:
                beat_at = now + BEAT_S
                self._fetch(wanting or [(None, 0)])
            self._wake.wait(self._rest_s(beat_at))
            self._wake.clear()
        self._leave()

    def _rest_s(self, beat_at: float) -> float:
        """Return for how long nothing needs to be done, unless somebody wants something."""
        if self._away:
            # Nobody's wish makes a dead server answer sooner.
            self._ended.wait(self._again_s)
            return 0.0
        now = self._now()
        if any(stock.wanted(now) for stock in self._stocks.values()):
            return 0.0
        return min([max(beat_at - now, 0.0), *(stock.again_s(now) for stock in self._stocks.values())])

    def _fetch(self, wanting: list[tuple[Stock, int]] | list[tuple[None, int]]) -> None:
        try:
            for stock, wanted in wanting:
                self._answered(stock, *self._asked(stock, wanted))
        except Exception as error:  # noqa: BLE001 - the client raises of many kinds, and all mean that nobody answers
            self._unanswered(error)

    def _asked(self, stock: Stock | None, wanted: int) -> tuple[int, int, int]:
        command, rate_per_s, burst = ("", 0.0, 0) if stock is None else (stock.command, stock.rate_per_s, stock.burst)
        granted, wait_us, members = self._script(
            keys=[f"{self._place}:rate:{command}", f"{self._place}:members"],
            args=[
                *(self._member, repr(rate_per_s), burst, wanted),
                *(int(each * US) for each in (AHEAD_S, SILENT_S, FORGOTTEN_S)),
                int(stock is not None and stock.alone),
                0 if stock is None else int(stock.ahead_s(self._now()) * US),
            ],
        )
        return int(granted), int(wait_us), int(members)

    def _answered(self, stock: Stock | None, granted: int, wait_us: int, members: int) -> None:
        self._heard_at = now = self._now()
        self._members = members
        if self._away:
            self._away, self._again_s = False, AGAIN_S
            log.warning("limits_shared_again lane=%s members=%d", self._lane, members)
            for each in self._stocks.values():
                each.go_together()
        if stock is not None:
            stock.leased(granted, now + wait_us / US, members)

    def _unanswered(self, error: Exception) -> None:
        now = self._now()
        self._again_s = min(2 * self._again_s, LONGEST_AGAIN_S)
        if not self._away:
            self._away = True
            log.error(
                "limits_not_shared lane=%s members=%d error=%r: each goes by its share until Redis answers, for %d s at"
                " most; see to `fleet: url`",
                *(self._lane, self._members, error, FORGOTTEN_S),
            )
        silent_s = now - self._heard_at
        for stock in self._stocks.values():
            if self._members and SILENT_S < silent_s < FORGOTTEN_S:
                stock.go_alone(now)
            else:
                stock.stand_still()

    def _leave(self) -> None:
        try:
            self._script.registered_client.zrem(f"{self._place}:members", self._member)
        except Exception as error:  # noqa: BLE001 - as above
            log.info("fleet_not_left lane=%s error=%r", self._lane, error)


def _script(fleet: FleetSettings) -> Any:  # noqa: ANN401 - the client's own, an extra
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as missing:
        raise SetupError(
            "shared limits need redis, which is not installed; run `pip install 'shadowstream[redis]'`"
        ) from missing
    client = Redis.from_url(
        fleet.url,
        socket_timeout=fleet.timeout_s,
        socket_connect_timeout=fleet.timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(files(__package__).joinpath("lease.lua").read_text(encoding="utf-8"))
