"""The one signal: which lane does the work at hand belong to?

The lane lives in one context variable, so it follows ordinary calls, asyncio tasks and ``asyncio.to_thread`` by itself.
Traps:

* A plain thread starts in the normal lane: Python copies no context into it. Run the target with
  ``contextvars.copy_context().run`` (guarded by ``test_a_plain_thread_starts_in_the_normal_lane``).
* The variable holds a mark or nothing. Nothing means normal, so ordinary traffic never pays for setting it.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Lane", "Mark", "current", "current_lane", "entered", "is_shadow", "mark_here"]

RUN_ID = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


class Lane(StrEnum):
    """One of the two ways through the system."""

    NORMAL = "normal"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Mark:
    """What makes a message shadow traffic: its run, its expiry, and who vouches for it.

    Raises:
        ValueError: the run id is not 1 to 40 of ``a-z 0-9 -``, or hop or expiry is negative.
    """

    run: str | None = None
    """The stress test it belongs to; None for a bare mark (``1`` or ``true``)."""
    expires_at: int | None = None
    """Unix seconds after which the message is stale; None when nobody said."""
    hop: int = 0
    """How many producers have passed the mark on."""
    key_id: str | None = None
    """The signing key, as named in ``mark.keys``; None when unsigned."""
    signature: str | None = None
    """HMAC-SHA256 over version, run and expiry, base64url without padding; None when unsigned."""

    def __post_init__(self) -> None:
        if self.run is not None and not RUN_ID.fullmatch(self.run):
            raise ValueError(f"run id {self.run!r}: use 1 to 40 of a-z, 0-9 and '-'")
        if self.hop < 0 or (self.expires_at is not None and self.expires_at < 0):
            raise ValueError(f"mark of run {self.run!r}: hop and expiry cannot be negative")
        if (self.key_id is None) != (self.signature is None):
            raise ValueError(f"mark of run {self.run!r}: a signature and its key id come together or not at all")


_current: ContextVar[Mark | None] = ContextVar("shadowstream.mark", default=None)


mark_here = _current.get
"""`current`, without a call of a Python function: for what is done for each message."""


def current() -> Mark | None:
    """Return the mark of the work at hand, None in the normal lane."""
    return _current.get()


def current_lane() -> Lane:
    """Return the lane of the work at hand."""
    return Lane.NORMAL if _current.get() is None else Lane.SHADOW


def is_shadow() -> bool:
    """Tell whether the work at hand is shadow traffic."""
    return _current.get() is not None


class entered:  # noqa: N801 - reads as a verb at the call: ``with entered(mark):``
    """Do the work inside the ``with`` block in the lane of ``mark`` (None: the normal lane)."""

    __slots__ = ("_mark", "_tokens")

    def __init__(self, mark: Mark | None) -> None:
        self._mark = mark
        self._tokens: list[Token[Mark | None]] = []

    def __enter__(self) -> Mark | None:
        self._tokens.append(_current.set(self._mark))
        return self._mark

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())
