"""The mark among W3C baggage (https://www.w3.org/TR/baggage/), for hops that pass on baggage and none of our headers.

OpenTelemetry's API reads baggage too, but of two members with one name it keeps the last; of ours none may be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HEADER", "marks", "mirrored", "without"]

HEADER: Final = "baggage"
MOST_BYTES, MOST_MEMBERS = 8192, 64
"""What the recommendation asks everybody to pass on; a request with more carries no mark of ours in it."""


def marks(headers: Iterable[bytes], name: str) -> list[bytes]:
    """Return the values of our members, as many as there are."""
    members = _members(headers)
    if len(members) > MOST_MEMBERS or sum(map(len, members)) > MOST_BYTES:
        return []
    return [unquote_to_bytes(_value(member)) for member in members if _key(member) == name]


def mirrored(headers: Iterable[bytes], name: str, value: str) -> str:
    """Return the baggage with the mark in it, in place of one that was there."""
    return ",".join([*_others(headers, name), f"{name}={quote(value, safe='')}"])


def without(headers: Iterable[bytes], name: str) -> str:
    """Return the baggage without the mark; empty when nothing else is in it."""
    return ",".join(_others(headers, name))


def _others(headers: Iterable[bytes], name: str) -> list[str]:
    return [member for member in _members(headers) if _key(member) != name]


def _members(headers: Iterable[bytes]) -> list[str]:
    text = ",".join(header.decode("latin-1") for header in headers)
    return [member.strip(" \t") for member in text.split(",") if member.strip(" \t")]


def _key(member: str) -> str:
    return member.partition("=")[0].strip(" \t")


def _value(member: str) -> str:
    # What follows a semicolon are properties of the member.
    return member.partition("=")[2].partition(";")[0].strip(" \t")
