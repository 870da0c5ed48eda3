"""The threads that run one topic's handlers, and how a batch is shared among them.

Traps:

* Strands are daemon threads: a handler that never returns must not keep the process alive
  (``test_close_ends_although_a_handler_never_returns``).
* A strand that meets an error of ours, not of a handler, ends the lane: going on would lose a message silently.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from queue import SimpleQueue
from typing import TYPE_CHECKING

from shadowstream.config import Order
from shadowstream.kafka.clients import logger_of
from shadowstream.kafka.offsets import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.engine import Engine

__all__ = ["Strand", "Strands"]

log = logger_of("strands")


class Strand:
    """One thread that carries pieces in the order they are put."""

    __slots__ = ("_ended", "_engine", "_queue", "bytes", "messages")

    def __init__(self, engine: Engine, name: str, ended: Callable[[BaseException | None], None]) -> None:
        self.messages = 0
        """Messages of pieces that are finished, ever; written by the strand only."""
        self.bytes = 0
        """Bytes of pieces that are finished, ever; written by the strand only."""
        self._engine = engine
        self._ended = ended
        self._queue: SimpleQueue[Piece | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, piece: Piece | None) -> None:
        """Hand over a piece; None: end after what was put before."""
        self._queue.put(piece)

    def _run(self) -> None:
        try:
            while (piece := self._queue.get()) is not None:
                self._engine.carry(piece)
                self.messages += piece.count
                self.bytes += piece.size
                self._ended(None)
            self._engine.binding.ended()
        except BaseException as error:
            log.exception("strand_failed topic=%s", self._engine.binding.topic.name)
            self._ended(error)


class Strands:
    """All strands of one topic in one lane; used by the owner thread only."""

    def __init__(self, engine: Engine, ended: Callable[[BaseException | None], None]) -> None:
        self.engine = engine
        topic = engine.binding.topic
        name = f"{engine.binding.lane}-{topic.name}"
        self._strands = [Strand(engine, f"{name}-{n}", ended) for n in range(topic.concurrency)]
        self._split = _splits(topic.order)
        self._max_messages = topic.max_messages
        self._max_bytes = topic.max_bytes
        self._messages = 0
        self._bytes = 0

    def pieces(self, partition: int, messages: list[RawMessage]) -> list[tuple[int, Piece]]:
        """Cut one partition's batch into pieces, each with the number of the strand that is to carry it."""
        return [(number, Piece(share)) for number, share in self._shares(partition, messages)]

    def put(self, number: int, piece: Piece) -> None:
        """Hand a piece to its strand."""
        self._messages += piece.count
        self._bytes += piece.size
        self._strands[number].put(piece)

    def level(self) -> float:
        """Return how full the bound is: 1.0 and more means take nothing further."""
        size = self._bytes - sum(strand.bytes for strand in self._strands)
        return max(self.waiting() / self._max_messages, size / self._max_bytes)

    def waiting(self) -> int:
        """Return how many messages are in pieces that are not finished."""
        return self._messages - sum(strand.messages for strand in self._strands)

    def end(self) -> None:
        """End the threads once they are idle."""
        for strand in self._strands:
            strand.put(None)

    def _shares(self, partition: int, messages: list[RawMessage]) -> Iterable[tuple[int, list[RawMessage]]]:
        if len(self._strands) == 1:
            return [(0, messages)]
        return self._split(partition, messages, len(self._strands)).items()


Shares = dict[int, list["RawMessage"]]


def _splits(order: Order) -> Callable[[int, list[RawMessage], int], Shares]:
    return {Order.PARTITION: _by_partition, Order.KEY: _by_key, Order.NONE: _by_turns}[order]


def _by_partition(partition: int, messages: list[RawMessage], strands: int) -> Shares:
    return {partition % strands: messages}


def _by_key(partition: int, messages: list[RawMessage], strands: int) -> Shares:
    """One key always meets one strand; messages without a key keep their partition's order."""
    shares: Shares = defaultdict(list)
    for message in messages:
        key = message.key()
        shares[(partition if key is None else hash(key)) % strands].append(message)
    return shares


def _by_turns(partition: int, messages: list[RawMessage], strands: int) -> Shares:  # noqa: ARG001 - one of three
    return {n: messages[n::strands] for n in range(min(strands, len(messages)))}
