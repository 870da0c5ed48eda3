"""How a batch is cut into pieces, and which piece's turn it is: pure, no thread, no lock, no clock.

Trap: messages without a key keep their partition's order under ``order: key``
(``test_messages_without_a_key_stay_in_order``).
"""

from __future__ import annotations

from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING

from shadowstream.config import Order
from shadowstream.kafka.offsets import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import TopicSettings

    Cut = Callable[[int, list[RawMessage]], list[Piece]]

__all__ = ["Turns", "cutter"]


def cutter(topic: TopicSettings, *, apart: bool = False) -> Cut:
    """Return what cuts one partition's batch into pieces, as the topic's order and concurrency ask.

    With ``apart`` each message is a piece, though still in its strand: it has a time of its own.
    """
    ways = {Order.PARTITION: _by_partition, Order.KEY: _by_key, Order.NONE: _singly}
    cut = _by_partition if topic.concurrency == 1 else ways[topic.order]
    return partial(_apart, cut) if apart else cut


def _apart(cut: Cut, partition: int, messages: list[RawMessage]) -> list[Piece]:
    return [Piece([message], piece.strand) for piece in cut(partition, messages) for message in piece.messages]


def _by_partition(partition: int, messages: list[RawMessage]) -> list[Piece]:
    return [Piece(messages, partition)]


def _by_key(partition: int, messages: list[RawMessage]) -> list[Piece]:
    keys: defaultdict[bytes | None, list[RawMessage]] = defaultdict(list)
    for message in messages:
        keys[message.key()].append(message)
    return [Piece(share, (partition, key)) for key, share in keys.items()]


def _singly(partition: int, messages: list[RawMessage]) -> list[Piece]:  # noqa: ARG001 - one of three
    return [Piece([message]) for message in messages]


class Turns:
    """Lets one piece of each strand be carried at a time."""

    __slots__ = ("_behind",)

    def __init__(self) -> None:
        self._behind: dict[Hashable, deque[Piece] | None] = {}

    def begins(self, piece: Piece) -> bool:
        """Take a piece; True when it may be carried at once, False when it waits for its turn."""
        strand = piece.strand
        if strand is None:
            return True
        if strand not in self._behind:
            self._behind[strand] = None
            return True
        behind = self._behind[strand]
        if behind is None:
            self._behind[strand] = behind = deque()
        behind.append(piece)
        return False

    def ends(self, piece: Piece) -> Piece | None:
        """Give back a piece that was carried; returns the one whose turn it is now."""
        strand = piece.strand
        if strand is None:
            return None
        if behind := self._behind[strand]:
            return behind.popleft()
        del self._behind[strand]
        return None
