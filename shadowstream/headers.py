"""The mark on the wire: read it, write it for the next hop, sign and verify it.

One ASCII value, its fields in this order and no other, everything after ``run`` optional::

    1;run=fcst-1111;exp=1795480000;hop=3;kid=k1;sig=<base64url HMAC-SHA256 of "1;run=fcst-1111;exp=1795480000">

``1`` and ``true`` are the bare forms. What cannot be trusted is never guessed: it reads as quarantine, with a reason.
Why it is so: ``docs/decisions/0002-mark-reading.md``. Traps:

* Trust ``open`` without keys checks no signature at all (``test_open_trust_without_keys_checks_no_signature``).
* The signature is checked before the expiry (``test_a_forged_stale_mark_is_quarantined_and_not_merely_expired``).
* A cached mark still expires: the cache holds the parse, never the verdict (``test_a_cached_mark_still_expires``).
* A message of more than 128 headers is quarantined unread, marked or not, for a second mark may hide behind the cap
  (``test_more_than_128_headers_are_quarantined_whatever_they_are``).
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from shadowstream.errors import MarkError, SetupError
from shadowstream.lane import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["NEAR_MISS", "NORMAL", "UNREADABLE", "Kind", "MarkReader", "MarkWriter", "Reading", "encode"]

MAX_HEADERS = 128
MAX_VALUE_BYTES = 1024
MAX_HOP = 999
MAX_KNOWN = 4096

NAME_OF: Final = itemgetter(0)
HEADER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)

# The outer group is what the signature covers: a signed mark without an expiry does not match at all.
MARK = re.compile(
    rb"(1;run=(?P<run>[a-z0-9-]{1,40})(?:;exp=(?P<exp>0|[1-9][0-9]{0,11}))?)"
    rb"(?:;hop=(?P<hop>0|[1-9][0-9]{0,2}))?"
    rb"(?(exp)(?:;kid=(?P<kid>[A-Za-z0-9._-]{1,32});sig=(?P<sig>[A-Za-z0-9_-]{43}))?)",
    re.ASCII,
)
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

    __slots__ = ("_folded", "_keys", "_known", "_max_age_s", "_signed", "_size", "_skew_s", "name")

    def __init__(
        self,
        *,
        name: str = "x-shadow",
        keys: Mapping[str, bytes] | None = None,
        signed: bool = False,
        max_age_s: float = 21600.0,
        skew_s: float = 30.0,
    ) -> None:
        self.name = _usable_name(name)
        self._folded = _folded(name)
        self._size = len(name)
        self._keys = {key_id.encode(): secret for key_id, secret in _usable_keys((keys or {}).items())}
        self._signed = signed
        self._max_age_s = max_age_s
        self._skew_s = skew_s
        # No lock: each dict operation is atomic, an entry never changes and depends on nothing but the bytes, so the
        # worst race parses a value twice or overshoots the bound by one entry per thread.
        self._known: dict[bytes, _Known] = {}

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
        known = self._known.get(value)
        if known is None:
            learnt = self._learn(value)
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

    def _learn(self, value: bytes) -> _Known | Reading:
        """Parse, verify and remember a value; what is refused comes back as its reading and is not remembered."""
        match = MARK.fullmatch(value)
        if match is None and value not in BARE:
            return UNKNOWN_VERSION if OTHER_VERSION.match(value) else MALFORMED
        refusal = self._refusal(match)
        if refusal is not None:
            return refusal
        known = self._known_as(Mark() if match is None else _mark(match))
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[value] = known
        return known

    def _refusal(self, match: re.Match[bytes] | None) -> Reading | None:
        if match is None or match["sig"] is None:
            return UNSIGNED if self._signed else None
        if not self._keys and not self._signed:
            return None
        secret = self._keys.get(match["kid"])
        if secret is None:
            return UNKNOWN_KEY
        # The text is compared, not the decoded bytes: base64 has several spellings of the same 32 bytes.
        return None if hmac.compare_digest(_signature(secret, match[1]), match["sig"]) else BAD_SIGNATURE

    def _known_as(self, mark: Mark) -> _Known:
        shadow, expired = Reading(Kind.SHADOW, mark, ""), Reading(Kind.EXPIRED, mark, "")
        if mark.expires_at is None:
            return _Known(shadow, expired, -inf, inf)
        since = mark.expires_at - self._max_age_s - self._skew_s
        return _Known(shadow, expired, since, mark.expires_at + self._skew_s)


class MarkWriter:
    """Writes the mark for the next hop; the first key signs.

    Raises:
        SetupError: the header name or a key cannot be used.
    """

    __slots__ = ("_key", "_max_age_s", "name")

    def __init__(
        self, *, name: str = "x-shadow", keys: Sequence[tuple[str, bytes]] = (), max_age_s: float = 21600.0
    ) -> None:
        self.name = _usable_name(name)
        self._key = next(iter(_usable_keys(keys)), None)
        self._max_age_s = max_age_s

    def onward(self, mark: Mark, now: float) -> bytes:
        """Return the header value that passes ``mark`` on at wall-clock time ``now`` (unix seconds).

        Raises:
            MarkError: there are keys but no run to sign, the mark has gone round 999 hops, or it fits no wire form.
        """
        if mark.run is None:
            return self._bare(mark)
        if mark.hop >= MAX_HOP:
            raise MarkError(f"mark of run {mark.run!r}: passed on {mark.hop} times; look for a loop among the topics")
        exp = int(now + self._max_age_s) if mark.expires_at is None else mark.expires_at
        key_id, signature = mark.key_id, mark.signature
        if signature is None and self._key is not None:
            key_id, secret = self._key
            signature = _signature(secret, f"1;run={mark.run};exp={exp}".encode()).decode()
        return _wire(mark.run, exp, mark.hop + 1, key_id, signature)

    def _bare(self, mark: Mark) -> bytes:
        if self._key is not None:
            raise MarkError("a bare mark has no run to sign; give it one, Mark(run=...), or configure no keys")
        return encode(mark)


def encode(mark: Mark) -> bytes:
    """Return the wire form of a mark, exactly as it is.

    Raises:
        MarkError: no wire form would read back as the same mark.
    """
    if mark.run is None:
        if mark != Mark():
            raise MarkError("a bare mark carries neither expiry, hop nor signature; give it a run, Mark(run=...)")
        return b"1"
    return _wire(mark.run, mark.expires_at, mark.hop, mark.key_id, mark.signature)


def _wire(run: str, exp: int | None, hop: int, key_id: str | None, signature: str | None) -> bytes:
    text = f"1;run={run}"
    if exp is not None:
        text += f";exp={exp}"
    if hop:
        text += f";hop={hop}"
    if signature is not None:
        text += f";kid={key_id};sig={signature}"
    value = text.encode("ascii", "replace")
    if MARK.fullmatch(value) is None:
        # The signature stays out of the message: whoever reads it in a log could replay it.
        raise MarkError(
            f"mark of run {run!r} (expires_at {exp!r}, hop {hop!r}, key_id {key_id!r}) cannot be written: use whole"
            " numbers, hop to 999 and expires_at to 12 digits; a signed mark needs an expiry, a key id of 1 to 32 of"
            " A-Z a-z 0-9 . _ - and a signature of 43 base64url characters"
        )
    return value


def _mark(match: re.Match[bytes]) -> Mark:
    run, exp, hop, kid, sig = match.group("run", "exp", "hop", "kid", "sig")
    return Mark(
        run.decode(),
        None if exp is None else int(exp),
        int(hop or 0),
        None if kid is None else kid.decode(),
        None if sig is None else sig.decode(),
    )


def _signature(secret: bytes, signed_part: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(secret, signed_part, "sha256")).rstrip(b"=")


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def _usable_name(name: str) -> str:
    if not HEADER_NAME.fullmatch(name):
        raise SetupError(f"mark header {name!r}: use 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


def _usable_keys(keys: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    usable = list(keys)
    for key_id, secret in usable:
        if not KEY_ID.fullmatch(key_id):
            raise SetupError(f"mark key {key_id!r}: use an id of 1 to 32 of A-Z a-z 0-9 . _ -")
        if not secret:
            raise SetupError(f"mark key {key_id!r}: its secret is empty, so anybody could sign; set it")
    return usable
