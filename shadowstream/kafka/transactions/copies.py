"""Copies that were set aside wait for the transaction that commits their source, like any output.

So a dead letter and the offset that it answers for are one: there is never one without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.kafka.transactions.ledger import Entry
from shadowstream.kafka.transactions.outbox import Output

if TYPE_CHECKING:
    from shadowstream.kafka.labels import Headers
    from shadowstream.kafka.outlets import Copy

__all__ = ["Slips"]


class Slips:
    """Stands where the outlets would use their clients."""

    def client(self, copy: Copy) -> Slip:
        """Return what takes this copy."""
        return Slip(copy)

    def poll(self, seconds: float) -> None:
        """Do nothing: the transaction's own producer takes the reports."""


class Slip:
    """Takes one copy."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: Headers, timestamp: int, **_: object
    ) -> None:
        """Let the copy wait, and let go of its source: from here on the transaction answers for both."""
        piece, (offset, _serial) = self._copy.piece, self._copy.token
        if piece.ledger is not None:
            output = Output(topic, value, key, -1, timestamp, headers, copy=True)
            piece.ledger.put(Entry(offset, [output], piece))
        piece.release(self._copy.token)
