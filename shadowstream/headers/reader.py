"""Reads what is on a message, whatever it is."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from shadowstream.headers.form import MARK, MAX_HOP, signature_of, usable_name
from shadowstream.headers.keyring import Keyring
from shadowstream.lane import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from shadowstream.headers.form import Rules

__all__ = ["NEAR_MISS", "NORMAL", "UNREADABLE", "Kind", "MarkReader", "Reading"]

MAX_HEADERS = 128
MAX_VALUE_BYTES = 1024
MAX_KNOWN = 4096

NAME_OF: Final = itemgetter(0)
BARE = frozenset((b"1", b"true"))
OTHER_VERSION = re.compile(rb"v?(?!1(?:;|\Z))[0-9]+(?:;|\Z)", re.ASCII)


class Kind(StrEnum):
    """What a message is, judged by its mark."""

    NORMAL = "normal"
    SHADOW = "shadow"
    EXPIRED = "expired"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from one message."""

    kind: Kind
    mark: Mark | None
    """The mark of a shadow or an expired message, else None."""
    reason: str
    """Why it is quarantined, ``near_miss`` when a header is named almost like ours, else empty; a metric label."""


def _quarantine(reason: str) -> Reading:
    return Reading(Kind.QUARANTINE, None, reason)


NORMAL = Reading(Kind.NORMAL, None, "")
NEAR_MISS = Reading(Kind.NORMAL, None, "near_miss")
UNREADABLE = _quarantine("unreadable")
"""Not bytes; also for callers whose client could not give the headers at all."""

BAD_SIGNATURE = _quarantine("bad_signature")
CONFLICT = _quarantine("conflict")
EMPTY = _quarantine("empty")
FUTURE = _quarantine("future")
MALFORMED = _quarantine("malformed")
TOO_LONG = _quarantine("too_long")
TOO_MANY_HEADERS = _quarantine("too_many_headers")
TOO_MANY_HOPS = _quarantine("too_many_hops")
UNKNOWN_KEY = _quarantine("unknown_key")
UNKNOWN_VERSION = _quarantine("unknown_version")
UNSIGNED = _quarantine("unsigned")


@dataclass(frozen=True, slots=True)
class _Known:
    """A value that was parsed and verified; only the clock is still to be asked."""

    shadow: Reading
    expired: Reading
    since: float
    """Wall-clock seconds before which the expiry lies too far ahead."""
    until: float
    """Wall-clock seconds after which it is stale."""


class MarkReader:
    """Tells what a message is by its headers; reads anything without raising, and may be shared by threads.

    Raises:
        SetupError: the header name or a key cannot be used.
    """

    __slots__ = (
        *("_folded", "_generation", "_keyring", "_known", "_max_age_s", "_max_hops", "_signed", "_size", "_skew_s"),
        "name",
    )

    def __init__(
        self,
        *,
        name: str = "x-shadow",
        keys: Mapping[str, bytes] | Keyring | None = None,
        signed: bool = False,
        max_age_s: float = 21600.0,
        skew_s: float = 30.0,
        max_hops: int = MAX_HOP,
    ) -> None:
        self.name = usable_name(name)
        self._folded = _folded(name)
        self._size = len(name)
        self._keyring = keys if isinstance(keys, Keyring) else Keyring((keys or {}).items())
        self._generation = self._keyring.generation
        self._signed = signed
        self._max_age_s = max_age_s
        self._skew_s = skew_s
        self._max_hops = max_hops
        # No lock: each dict operation is atomic, an entry never changes and depends only on the bytes and the keys
        # of its table, so the worst race parses a value twice or overshoots the bound by one entry per thread.
        self._known: dict[bytes, _Known] = {}

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """Return a reader that believes what these rules do."""
        return cls(
            name=rules.header,
            keys=rules.keyring,
            signed=rules.signed,
            max_age_s=rules.max_age_s,
            skew_s=rules.skew_s,
            max_hops=rules.max_hops,
        )

    def read(self, headers: list[tuple[str, bytes | None]] | None, now: float) -> Reading:
        """Read a message's headers at wall-clock time ``now`` (unix seconds)."""
        if not headers:
            return NORMAL
        if len(headers) > MAX_HEADERS:
            return TOO_MANY_HEADERS
        # Every normal message comes through here: a comparison of lengths rules out our name and its near misses alike.
        size = self._size
        for name, _ in headers:
            if len(name) == size:
                return self._read_ours(headers, now)
        return NORMAL

    def unmarked(self, batch: Iterable[list[tuple[str, bytes | None]] | None]) -> bool:
        """Tell whether these messages are all plainly normal: `read` would call each of them `NORMAL`.

        It looks at many messages in a few calls, none of them a loop of ours: about 0.1 us per message.
        """
        present = list(filter(None, batch))
        if not present:
            return True
        sizes = map(len, set(map(NAME_OF, chain.from_iterable(present))))
        return self._size not in sizes and max(map(len, present)) <= MAX_HEADERS

    def marked(self, headers: list[tuple[str, bytes | None]] | None) -> bool:
        """Tell whether a message has a mark at all, whatever it is worth; one of which nobody can tell has none."""
        if not headers or len(headers) > MAX_HEADERS:
            return False
        ours = self.name
        for name, _ in headers:  # noqa: SIM110 - any() costs three times as much, for each message of a flood
            if name == ours:
                return True
        return False

    def stale(self, mark: Mark, now: float) -> bool:
        """Tell whether a mark that was read before has expired by wall-clock time ``now`` (unix seconds)."""
        return mark.expires_at is not None and now > mark.expires_at + self._skew_s

    def read_value(self, value: bytes | str | None, now: float) -> Reading:
        """Read the value of one mark header at wall-clock time ``now`` (unix seconds); text is unreadable."""
        if not value:
            return EMPTY
        if not isinstance(value, bytes):
            return UNREADABLE
        if len(value) > MAX_VALUE_BYTES:
            return TOO_LONG
        if self._generation != self._keyring.generation:
            self._forget()
        table = self._known
        known = table.get(value)
        if known is None:
            learnt = self._learn(value, table)
            if isinstance(learnt, Reading):
                return learnt
            known = learnt
        if known.since <= now <= known.until:
            return known.shadow
        return known.expired if now > known.until else FUTURE

    def _read_ours(self, headers: list[tuple[str, bytes | None]], now: float) -> Reading:
        ours = self.name
        seen = near = False
        found: bytes | None = None
        for name, value in headers:
            if name == ours:
                if seen and value != found:
                    return CONFLICT
                seen, found = True, value
            elif len(name) == self._size and _folded(name) == self._folded:
                near = True
        if seen:
            return self.read_value(found, now)
        return NEAR_MISS if near else NORMAL

    def _forget(self) -> None:
        """Verify everything anew, in another table: whoever is learning by the old keys writes it into the old one."""
        self._generation = self._keyring.generation
        self._known = {}

    def _learn(self, value: bytes, table: dict[bytes, _Known]) -> _Known | Reading:
        """Parse, verify and remember a value; what is refused comes back as its reading and is not remembered."""
        match = MARK.fullmatch(value)
        if match is None and value not in BARE:
            return UNKNOWN_VERSION if OTHER_VERSION.match(value) else MALFORMED
        refusal = self._refusal(match)
        if refusal is not None:
            return refusal
        mark = Mark() if match is None else _mark(match)
        if mark.hop > self._max_hops:
            return TOO_MANY_HOPS
        known = self._known_as(mark)
        if len(table) >= MAX_KNOWN:
            table.clear()
        table[value] = known
        return known

    def _refusal(self, match: re.Match[bytes] | None) -> Reading | None:
        if match is None or match["sig"] is None:
            return UNSIGNED if self._signed else None
        keys = self._keyring.verifying
        if not keys and not self._signed:
            return None
        secret = keys.get(match["kid"])
        if secret is None:
            return UNKNOWN_KEY
        # The text is compared, not the decoded bytes: base64 has several spellings of the same 32 bytes.
        return None if hmac.compare_digest(signature_of(secret, match[1]), match["sig"]) else BAD_SIGNATURE

    def _known_as(self, mark: Mark) -> _Known:
        shadow, expired = Reading(Kind.SHADOW, mark, ""), Reading(Kind.EXPIRED, mark, "")
        if mark.expires_at is None:
            return _Known(shadow, expired, -inf, inf)
        since = mark.expires_at - self._max_age_s - self._skew_s
        return _Known(shadow, expired, since, mark.expires_at + self._skew_s)


def _mark(match: re.Match[bytes]) -> Mark:
    run, exp, hop, kid, sig = match.group("run", "exp", "hop", "kid", "sig")
    return Mark(
        run.decode(),
        None if exp is None else int(exp),
        int(hop or 0),
        None if kid is None else kid.decode(),
        None if sig is None else sig.decode(),
    )


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")
