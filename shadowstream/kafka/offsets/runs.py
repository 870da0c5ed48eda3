"""Lists of whole numbers as short text, for commit metadata: LEB128 (as in DWARF), deflated, in base 85."""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["numbers_of", "text_of"]

MAX_PLAIN = 1 << 20
"""Bytes that a list is inflated to at most: whoever may commit for a group may write anything."""


def text_of(numbers: Iterable[int]) -> str:
    """Write numbers, none below 0, as ASCII text without spaces, quotes, commas or semicolons."""
    return b85encode(zlib.compress(bytes(chain.from_iterable(map(_bytes, numbers))), 9)).decode()


def numbers_of(text: str) -> list[int]:
    """Read what `text_of` wrote.

    Raises:
        ValueError: it is not that.
    """
    try:
        machine = zlib.decompressobj()
        plain = machine.decompress(b85decode(text), MAX_PLAIN)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not machine.eof:
        raise ValueError("cut, or longer than any of ours")
    numbers, number, shift = [], 0, 0
    for byte in plain:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number = shift = 0
    if shift:
        raise ValueError("its last number is cut")
    return numbers


def _bytes(number: int) -> Iterator[int]:
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
