"""The bounds of what is read and not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.config import TopicSettings
    from shadowstream.kafka.offsets import Piece

__all__ = ["Load"]


class Load:
    """Counts what one topic's hands were given and have finished; each number has one writer at a time."""

    __slots__ = ("_bytes_in", "_bytes_out", "_in", "_max_bytes", "_max_messages", "_out", "_unsettled")

    def __init__(self, topic: TopicSettings, unsettled: Callable[[], int]) -> None:
        self._max_messages = topic.max_messages
        self._max_bytes = topic.max_bytes
        self._in = self._out = self._bytes_in = self._bytes_out = 0
        self._unsettled = unsettled

    def taken(self, piece: Piece) -> None:
        """Note a piece that the owner handed over."""
        self._in += piece.count
        self._bytes_in += piece.size

    def finished(self, piece: Piece) -> None:
        """Note a piece that was carried; hands call it one at a time."""
        self._out += piece.count
        self._bytes_out += piece.size

    def waiting(self) -> int:
        """Return how many messages are in pieces that are not finished."""
        return self._in - self._out

    def level(self) -> float:
        """Return how full the bound is: 1.0 and more means take nothing further."""
        messages = self.waiting() + self._unsettled()
        return max(messages / self._max_messages, (self._bytes_in - self._bytes_out) / self._max_bytes)
