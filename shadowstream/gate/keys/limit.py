"""How fast may each user, each promotion, each of anything go? One bucket for each value of some fields.

A message is admitted when the buckets of all its fields admit it, and a refusal takes from none. Values are told apart
by their text: 7 and "7" are one user. Some values may have rates of their own. For a field that is absent or null the
rule says what counts: by default one bucket shared by every message without it, so leaving it out evades no limit.

The table is bounded, and forgetting a bucket is only free while it is full again. So idle keys go, limited ones never:
when every key is live a new one is refused and counted in ``overflows``.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Final

from shadowstream.config.model import Missing
from shadowstream.gate.keys.hot import HotKeys
from shadowstream.gate.rate import RE_ASK_S, Bucket
from shadowstream.gate.verdict import Ticket, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.config.model import KeysRule

__all__ = ["KeyedLimit"]

Key = tuple[str, ...]

# A longer value is kept as its digest, so that max_keys bounds bytes as well as keys.
LONGEST_VALUE: Final = 64
# How many keys one decision looks at to find idle ones: bounds the time under the lock (well under 1 us each).
LOOKS: Final = 32


def key_of(field: str, value: object) -> Key:
    """Return what a field's value is counted under; the lengths keep absent, short and digested values apart."""
    if value is None:
        return (field,)
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)
    if len(text) <= LONGEST_VALUE:
        return (field, text)
    return (field, blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest(), "digest")


class _Kept(Bucket):
    """One key's bucket, and the rule it went by last."""

    __slots__ = ("epoch",)

    epoch: int


class KeyedLimit:
    """A rate for each (field, value), all or nothing over the fields of one decision."""

    __slots__ = (
        "_burst",
        "_epoch",
        "_hand",
        "_hot",
        "_lock",
        "_max_keys",
        "_missing",
        "_on_refusal",
        "_rate_per_s",
        "_rates",
        "_table",
        "dry_run",
        "fields",
        "overflows",
    )

    def __init__(self, rule: KeysRule, on_refusal: Verdict = Verdict.WAIT) -> None:
        self._on_refusal = on_refusal
        self._epoch = 0
        """Counts the rules it went by."""
        self._go_by(rule)
        self._lock = Lock()
        self._table: dict[Key, _Kept] = {}
        self._hand: deque[Key] = deque()
        """Every key of the table once, in the order in which they are looked at when room is needed."""
        self.overflows = 0
        """Decisions refused because the table was full of live keys."""

    def _go_by(self, rule: KeysRule) -> None:
        self.fields = tuple(dict.fromkeys(rule.keys))
        self._rate_per_s, self._burst = rule.hard_per_s, rule.burst
        self._missing, self.dry_run = rule.missing, rule.dry_run
        self._rates = {
            key_of(field, value): rate_per_s
            for field, rates in rule.overrides.items()
            for value, rate_per_s in rates.items()
        }
        self._max_keys = max(rule.max_keys, len(self.fields))
        self._hot = HotKeys(rule.hot_keys) if rule.hot_keys else None

    def adopt(self, rule: KeysRule) -> None:
        """Go on by another rule; each key's bucket follows when it is asked next, so nobody waits for all of them."""
        with self._lock:
            self._go_by(rule)
            self._epoch += 1

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._table)

    def enter(self, values: Mapping[str, object], now: float) -> Ticket:
        """Decide on a message with these field values at monotonic second ``now``; there is nothing to leave."""
        if self._missing is Missing.REFUSE and any(values.get(field) is None for field in self.fields):
            return Ticket(self._on_refusal, RE_ASK_S, by="keys", entered_at=now)
        keys = self._limited(values)
        with self._lock:
            wait_s, new = self._checked(keys, now)
            if wait_s:
                if self._hot is not None:
                    self._hot.count(keys)
                return Ticket(self._on_refusal, wait_s, by="keys", entered_at=now)
            table = self._table
            for key in new:
                table[key] = bucket = _Kept(self._rate_of(key), self._burst)
                bucket.epoch = self._epoch
                bucket.check(now)
                self._hand.append(key)
            for key in keys:
                table[key].content += 1.0
            if self._hot is not None:
                self._hot.count([key for key in keys if 2 * table[key].content > table[key].burst])
        return Ticket(entered_at=now)

    @property
    def tells(self) -> bool:
        """Tell whether it counts what is asked for most."""
        return self._hot is not None

    def hot(self) -> tuple[tuple[str, str, int], ...]:
        """Return the fields and values that were asked for most since the last time, and how often; hottest first."""
        with self._lock:
            taken = [] if self._hot is None else self._hot.taken()
        return tuple((key[0], ":".join(reversed(key[1:])), count) for key, count in taken)

    def give_back(self, values: Mapping[str, object]) -> None:
        """Put back what an admitted message took, because something else refused it."""
        with self._lock:
            for key in self._limited(values):
                bucket = self._table.get(key)
                if bucket is not None:
                    bucket.content = max(bucket.content - 1.0, 0.0)

    def _limited(self, values: Mapping[str, object]) -> list[Key]:
        """Return the keys that a message with these values counts for."""
        keys = [
            key_of(field, value)
            for field in self.fields
            if (value := values.get(field)) is not None or self._missing is not Missing.ADMIT
        ]
        rates = self._rates
        return [key for key in keys if rates.get(key, 0.0) is not None] if rates else keys

    def _rate_of(self, key: Key) -> float:
        own = self._rates.get(key)
        return self._rate_per_s if own is None else own

    def _checked(self, keys: list[Key], now: float) -> tuple[float, list[Key]]:
        """Return the seconds until every key admits (0.0: now), and the keys that are not in the table yet."""
        wait_s, new = 0.0, []
        for key in keys:
            bucket = self._table.get(key)
            if bucket is not None:
                if bucket.epoch != self._epoch:
                    bucket.epoch = self._epoch
                    bucket.adopt(self._rate_of(key), self._burst, now)
                wait_s = max(wait_s, bucket.check(now))
            elif self._rate_of(key) > 0.0:
                new.append(key)
            else:
                wait_s = RE_ASK_S
        if new and not wait_s and not self._room_for(keys, len(new), now):
            self.overflows += 1
            wait_s = RE_ASK_S
        return wait_s, new

    def _room_for(self, keys: list[Key], wanted: int, now: float) -> bool:
        """Tell whether as many as wanted fit, forgetting idle keys other than these where they do not."""
        table, hand, allowed = self._table, self._hand, self._max_keys - wanted
        for _ in range(LOOKS):
            if len(table) <= allowed:
                return True
            if not hand:
                break
            key = hand.popleft()
            if key in keys or table[key].full_at() > now:
                hand.append(key)
            else:
                del table[key]
        return len(table) <= allowed
