"""The wire form of a mark, and what names, keys and rules can be used for it."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Protocol

from shadowstream.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.headers.keyring import Keyring

__all__ = ["MARK", "MAX_HOP", "Rules", "signature_of", "usable_keys", "usable_name"]

MAX_HOP = 999

HEADER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)

# The outer group is what the signature covers: a signed mark without an expiry does not match at all.
MARK = re.compile(
    rb"(1;run=(?P<run>[a-z0-9-]{1,40})(?:;exp=(?P<exp>0|[1-9][0-9]{0,11}))?)"
    rb"(?:;hop=(?P<hop>0|[1-9][0-9]{0,2}))?"
    rb"(?(exp)(?:;kid=(?P<kid>[A-Za-z0-9._-]{1,32});sig=(?P<sig>[A-Za-z0-9_-]{43}))?)",
    re.ASCII,
)


class Rules(Protocol):
    """How marks are spelled and believed, as the configuration has it."""

    @property
    def header(self) -> str:
        """The header's name."""

    @property
    def signed(self) -> bool:
        """Whether only signed marks are believed."""

    @property
    def keyring(self) -> Keyring:
        """The signing keys."""

    @property
    def max_age_s(self) -> float:
        """How far in the future an expiry may lie, and the expiry given to a mark without one."""

    @property
    def skew_s(self) -> float:
        """How far two clocks may disagree."""

    @property
    def max_hops(self) -> int:
        """How often a mark may be passed on."""


def signature_of(secret: bytes, signed_part: bytes) -> bytes:
    """Return what signs these bytes: HMAC-SHA256, base64url without padding."""
    return urlsafe_b64encode(hmac.digest(secret, signed_part, "sha256")).rstrip(b"=")


def usable_name(name: str) -> str:
    """Return a header name that can be sent.

    Raises:
        SetupError: it cannot.
    """
    if not HEADER_NAME.fullmatch(name):
        raise SetupError(f"mark header {name!r}: use 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


def usable_keys(keys: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return keys that can sign.

    Raises:
        SetupError: an id fits no mark, or a secret is empty.
    """
    usable = list(keys)
    for key_id, secret in usable:
        if not KEY_ID.fullmatch(key_id):
            raise SetupError(f"mark key {key_id!r}: use an id of 1 to 32 of A-Z a-z 0-9 . _ -")
        if not secret:
            raise SetupError(f"mark key {key_id!r}: its secret is empty, so anybody could sign; set it")
    return usable
