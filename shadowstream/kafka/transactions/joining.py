"""Turns a topic's binding and outlets into transactional ones, when the worker is built: no other topic pays for it.

Parked, quarantined and dead-lettered copies wait for the transaction that commits their source, like any output: there
is never a copy without the offset that it answers for, nor the offset without the copy.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shadowstream.gate import Ticket, Verdict
from shadowstream.kafka.engine import is_async
from shadowstream.kafka.offsets import Piece, offset_of, source
from shadowstream.kafka.transactions.ledger import Entry, Shelf
from shadowstream.kafka.transactions.outbox import Outbox, Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.events import GateLevel, Outcome
    from shadowstream.gate import Gate
    from shadowstream.kafka.engine import Binding
    from shadowstream.kafka.engine.binding import Handler
    from shadowstream.kafka.labels import Headers
    from shadowstream.kafka.outlets import Copy

__all__ = ["Slips", "joined_to"]

ROOM_S = 0.05
"""When to ask again whether there is room."""


def joined_to(shelf: Shelf, binding: Binding, cluster: object) -> Binding:
    """Return the binding with its handler's outputs put on the shelf, and with no handler begun while that is full."""
    handler = _Joined(binding, cluster)
    return replace(
        binding,
        handler=handler.called_async if is_async(binding.handler) else handler.called,
        gate_of=lambda: _ShelfGate(binding.gate_of(), shelf),
        shelf=shelf,
    )


class _ShelfGate:
    """The topic's gate, with room on the shelf asked for first."""

    def __init__(self, gate: Gate, shelf: Shelf) -> None:
        self._gate = gate
        self._shelf = shelf

    def enter(self, now: float, work: object = None) -> Ticket:
        if self._shelf.full():
            return Ticket(Verdict.WAIT, ROOM_S, by="transaction")
        return self._gate.enter(now, work)

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        self._gate.leave(ticket, outcome, now, error)

    def level(self, now: float) -> GateLevel | None:
        return self._gate.level(now)


class _Joined:
    """A handler whose outputs wait for their source's transaction."""

    def __init__(self, binding: Binding, cluster: object) -> None:
        self._handler: Handler = binding.handler
        self._topic = binding.topic
        self._wall = binding.clock.wall
        self._cluster = cluster

    def called(self, work: Any) -> object:  # noqa: ANN401 - a message or a batch, as handlers take it
        with self._opened() as outbox:
            returned = self._handler(work)
        if not inspect.isawaitable(returned):
            _put_down(outbox)
        return returned

    async def called_async(self, work: Any) -> None:  # noqa: ANN401 - as above
        with self._opened() as outbox:
            await self._handler(work)  # type: ignore[misc] # `is_async` was asked
        _put_down(outbox)

    @contextmanager
    def _opened(self) -> Iterator[Outbox]:
        piece = source.get()
        if not isinstance(piece, Piece):
            raise TypeError(f"a handler of {self._topic.name} was called outside of its piece")
        outbox = Outbox(piece, self._topic, self._cluster, self._wall)
        token = source.set(outbox)
        try:
            yield outbox
        finally:
            source.reset(token)
            outbox.close()


def _put_down(outbox: Outbox) -> None:
    """Let what a call produced wait for its source."""
    piece, outputs = outbox.piece, outbox.close()
    if outputs and piece.ledger is not None:
        raws = piece.at_hand()
        piece.learn_late(raws)
        piece.ledger.put(Entry(offset_of(raws[0]), outputs, piece, raws))


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
