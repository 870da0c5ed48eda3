"""The vouchers, as each lane's own store knows them.

A voucher takes its steps in any order and as often as messages are delivered, and each step counts once: a message may
come twice (at least once is what Kafka promises), and nothing here doubles by it. Settled and cancelled are one step
with two ways to go; the first to come decides.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import shadowstream as ss

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MemoryStore", "RedisStore", "Store", "Vouchers", "opened"]

CLOSING = ("settled", "cancelled")
TIMEOUT_S = 0.05
MAX_VOUCHERS = 200_000


class Store(Protocol):
    """Keeps the steps of vouchers, and which vouchers of a promotion took them."""

    def reach(self, voucher_id: str, step: str, promotion_id: str) -> bool:
        """Let a voucher take a step; False when it took it before, or went the other way."""
        ...

    def reached(self, voucher_id: str) -> frozenset[str]:
        """Return the steps that a voucher took."""
        ...

    def count(self, promotion_id: str, step: str) -> int:
        """Return how many vouchers of a promotion took a step."""
        ...


class MemoryStore:
    """A store inside this process, for tests and the demo; it forgets the oldest vouchers past a bound."""

    def __init__(self, max_vouchers: int = MAX_VOUCHERS) -> None:
        self._lock = threading.Lock()
        self._max_vouchers = max_vouchers
        self._steps: dict[str, dict[str, str]] = {}
        self._taken: dict[tuple[str, str], int] = {}

    def reach(self, voucher_id: str, step: str, promotion_id: str) -> bool:
        """Let a voucher take a step; False when it took it before, or went the other way."""
        with self._lock:
            steps = self._steps.setdefault(voucher_id, {})
            if len(self._steps) > self._max_vouchers:
                del self._steps[next(iter(self._steps))]
            if field(step) in steps:
                return False
            steps[field(step)] = step
            self._taken[promotion_id, step] = self._taken.get((promotion_id, step), 0) + 1
            return True

    def reached(self, voucher_id: str) -> frozenset[str]:
        """Return the steps that a voucher took."""
        return frozenset(self._steps.get(voucher_id, {}).values())

    def count(self, promotion_id: str, step: str) -> int:
        """Return how many vouchers of a promotion took a step."""
        return self._taken.get((promotion_id, step), 0)


class RedisStore:
    """A store in Redis under a prefix.

    Beside the prefix, give the shadow lane a Redis user that may touch nothing else (``~shadow:*``).
    Every write can be done again without effect, so a crash between two of them heals when the message comes again.
    """

    def __init__(self, url: str, prefix: str = "", keep_s: int = 86_400, *, timeout_s: float = TIMEOUT_S) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # The client's defaults wait minutes for a server that does not answer; Kafka's redelivery is our retry.
        self._redis: Any = Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = prefix
        self._keep_s = keep_s

    def reach(self, voucher_id: str, step: str, promotion_id: str) -> bool:
        """Let a voucher take a step; False when it took it before, or went the other way."""
        voucher = self._voucher(voucher_id)
        first, went, _ = (
            self._redis.pipeline(transaction=False)
            .hsetnx(voucher, field(step), step)
            .hget(voucher, field(step))
            .expire(voucher, self._keep_s)
            .execute()
        )
        if went != step.encode():
            return False
        taken = self._taken(promotion_id, step)
        self._redis.pipeline(transaction=False).sadd(taken, voucher_id).expire(taken, self._keep_s).execute()
        return bool(first)

    def reached(self, voucher_id: str) -> frozenset[str]:
        """Return the steps that a voucher took."""
        return frozenset(step.decode() for step in self._redis.hvals(self._voucher(voucher_id)))

    def count(self, promotion_id: str, step: str) -> int:
        """Return how many vouchers of a promotion took a step."""
        return int(self._redis.scard(self._taken(promotion_id, step)))

    def _voucher(self, voucher_id: str) -> str:
        return f"{self._prefix}voucher:{voucher_id}"

    def _taken(self, promotion_id: str, step: str) -> str:
        return f"{self._prefix}promotion:{promotion_id}:{step}"


class Vouchers:
    """The vouchers of the lane of the work at hand."""

    def __init__(self, settings: ss.Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._stores: dict[ss.Lane, Store] = {}

    def reach(self, voucher: Mapping[str, str], step: str) -> bool:
        """Let a voucher take a step; False when it took it before, or went the other way."""
        return self.store().reach(voucher["voucher_id"], step, voucher["promotion_id"])

    def store(self) -> Store:
        """Return this lane's store, opened on first use: a connection does not survive a fork."""
        lane = ss.Lane.SHADOW if ss.is_shadow() else ss.Lane.NORMAL
        with self._opening:
            if lane not in self._stores:
                self._stores[lane] = opened(self._settings.of(lane).data["redis"])
            return self._stores[lane]


def opened(sink: Mapping[str, object]) -> Store:
    """Return the store that a sink of the configuration names; ``memory://`` is this process itself."""
    url = str(sink["url"])
    if url.startswith("memory://"):
        return MemoryStore()
    return RedisStore(url, str(sink.get("prefix") or ""), int(str(sink.get("keep_s") or 86_400)))


def field(step: str) -> str:
    """Return what a step is kept under, so that a voucher goes one of the closing ways and not both."""
    return "closed" if step in CLOSING else step
