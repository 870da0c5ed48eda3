"""What a message is by its headers, as the design says it (section 6), written a second time and slowly.

It shares no code with ``shadowstream.headers``: no pattern, no cache, no signature of ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

__all__ = ["Judge"]

LOWER = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
OF_RUNS = frozenset(LOWER + DIGITS + "-")
OF_KEYS = frozenset(LOWER + LOWER.upper() + DIGITS + "._-")
MOST_HEADERS, MOST_BYTES = 128, 1024
LONGEST_RUN, LONGEST_KEY, LONGEST_EXPIRY, LONGEST_HOP = 40, 32, 12, 3

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Token:
    """The parts of a well-formed mark."""

    run: str
    exp: int | None
    hop: int
    kid: str | None
    sig: str | None
    signed_part: str


class Judge:
    """Says ``normal``, ``shadow``, ``expired`` or ``quarantine``."""

    def __init__(
        self, *, name: str, keys: dict[str, bytes], signed: bool, max_age_s: float, skew_s: float, max_hops: int
    ) -> None:
        self._name, self._keys, self._signed = name, keys, signed
        self._max_age_s, self._skew_s, self._max_hops = max_age_s, skew_s, max_hops

    def judge(self, headers: Headers, now: float) -> str:
        """Judge a message."""
        if len(headers) > MOST_HEADERS:
            return "quarantine"
        values = [value for name, value in headers if name == self._name]
        if not values:
            return "normal"
        if any(value != values[0] for value in values):
            return "quarantine"
        return self.judge_value(values[0], now)

    def judge_value(self, value: bytes | None, now: float) -> str:
        """Judge one mark."""
        if not value or len(value) > MOST_BYTES:
            return "quarantine"
        if value in (b"1", b"true"):
            return "quarantine" if self._signed else "shadow"
        token = parsed(value)
        if token is None or not self._believed(token) or token.hop > self._max_hops:
            return "quarantine"
        if token.exp is None or now <= token.exp + self._skew_s:
            early = token.exp is not None and now < token.exp - self._max_age_s - self._skew_s
            return "quarantine" if early else "shadow"
        return "expired"

    def _believed(self, token: Token) -> bool:
        if token.sig is None:
            return not self._signed
        if not self._keys:
            return not self._signed
        secret = self._keys.get(token.kid or "")
        if secret is None:
            return False
        digest = hmac.new(secret, token.signed_part.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=") == token.sig


def parsed(value: bytes) -> Token | None:
    """Take a mark apart; None when it is none."""
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return None
    fields = text.split(";")
    if fields[0] != "1" or len(fields) == 1:
        return None
    names = [field.partition("=")[0] for field in fields[1:]]
    if any("=" not in field for field in fields[1:]):
        return None
    order = ["run", "exp", "hop", "kid", "sig"]
    if names != [name for name in order if name in names]:
        return None
    parts = {field.partition("=")[0]: field.partition("=")[2] for field in fields[1:]}
    run, exp, hop, kid, sig = (parts.get(name) for name in order)
    if run is None or not (0 < len(run) <= LONGEST_RUN and set(run) <= OF_RUNS):
        return None
    if not _number(exp, LONGEST_EXPIRY) or not _number(hop, LONGEST_HOP):
        return None
    if (kid is None) != (sig is None) or (sig is not None and exp is None):
        return None
    if kid is not None and not (0 < len(kid) <= LONGEST_KEY and set(kid) <= OF_KEYS):
        return None
    if sig is not None and not (len(sig) == 43 and set(sig) <= OF_KEYS - {"."}):
        return None
    signed_part = f"1;run={run}" + ("" if exp is None else f";exp={exp}")
    return Token(run, None if exp is None else int(exp), int(hop or 0), kid, sig, signed_part)


def _number(text: str | None, longest: int) -> bool:
    """Tell whether a field is left out or a number without a sign or leading zeros."""
    if text is None:
        return True
    return 0 < len(text) <= longest and set(text) <= set(DIGITS) and (text == "0" or text[0] != "0")
