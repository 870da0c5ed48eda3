"""The books: which offsets of a partition are answered for, and what may be committed.

Pure: no I/O, no lock, no clock, no client. A batch of one partition is one or more pieces, each carried in order by
one strand, so the books cost a few numbers per piece and nothing per message. Traps:

* A strand advances `Piece.done` while the owner thread reads it; each is one attribute read or write, and a stale
  read only makes the commit later, never wrong (``test_a_commit_never_passes_an_unfinished_message``).
* What a handler produced is not answered for until its delivery report: `Piece.held` keeps the offset back
  (``test_an_undelivered_output_keeps_its_source_uncommitted``).
* Offsets have gaps (transaction markers, compaction): nothing here ever waits for ``offset + 1``.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message as RawMessage

__all__ = ["Piece", "Window", "source"]

Token = tuple[int, int]

source: ContextVar[Piece | None] = ContextVar("shadowstream.source", default=None)
"""The piece whose message is being handled, so that what a handler produces holds its source back."""


class Piece:
    """One strand's share of one partition's batch; carried in order."""

    __slots__ = (
        "_failed",
        "_tokens",
        "cancelled",
        "count",
        "done",
        "held",
        "messages",
        "on_lost_output",
        "outputs",
        "running",
        "size",
    )

    def __init__(self, messages: Sequence[RawMessage]) -> None:
        self.messages = messages
        """What was read, in offset order; emptied once all of it is done."""
        self.count = len(messages)
        """How many they were."""
        self.done = 0
        """How many of them are finished; written by the strand only."""
        self.held: set[Token] = set()
        """Offsets that wait for a delivery report: (offset, serial)."""
        self.outputs: dict[int, bool] = {}
        """Offsets of messages that produced something and are not counted yet: whether the handler has succeeded."""
        self.cancelled = False
        """Set by the owner: start no further message."""
        self.running = False
        """True from the first message started to the last one finished; written by the strand only."""
        self.size = sum(map(len, messages))
        """Payload bytes."""
        self.on_lost_output: Callable[[RawMessage, str], object] | None = None
        """Told when an output of a message was not delivered."""
        self._tokens = count()
        self._failed: dict[int, object] = {}

    def hold_current(self) -> tuple[Token, RawMessage] | None:
        """Keep the message being handled uncommitted until `release`; None when nothing is being handled."""
        if self.done >= len(self.messages):
            return None
        raw = self.messages[self.done]
        token = self.hold(raw)
        self.outputs.setdefault(token[0], False)
        return token, raw

    def hold(self, raw: RawMessage) -> Token:
        """Keep one message uncommitted until `release`."""
        token = (offset_of(raw), next(self._tokens))
        self.held.add(token)
        return token

    def fail(self, raw: RawMessage) -> bool:
        """Take note that a message goes to the dead letters; False when it did before."""
        ours = object()
        return self._failed.setdefault(offset_of(raw), ours) is ours

    def ended(self, offset: int, *, handled: bool) -> bool:
        """Take note that a handler ended; True when how its message ended depends on its outputs."""
        if handled and offset in self.outputs:
            self.outputs[offset] = True
            return True
        self.outputs.pop(offset, None)
        return False

    def answers(self) -> tuple[int, int]:
        """Take out the handled messages whose outputs were all reported: how many delivered, how many lost."""
        if not self.outputs:
            return 0, 0
        waiting = {offset for offset, _ in set(self.held)}
        known = [offset for offset, handled in list(self.outputs.items()) if handled and offset not in waiting]
        for offset in known:
            del self.outputs[offset]
        lost = sum(offset in self._failed for offset in known)
        return len(known) - lost, lost

    def release(self, token: Token) -> None:
        """Let go of what `hold` kept."""
        self.held.discard(token)

    def close(self) -> None:
        """Let go of the messages if all are done: the books keep the piece until the next commit, not its bytes."""
        if self.done == self.count:
            self.messages = ()

    def lowest(self) -> int | None:
        """Return the lowest offset not answered for, None when all are."""
        done = self.done
        # A copy first: another thread may add or discard meanwhile, and set() copies in one step.
        held = min(set(self.held), default=None)
        if done < len(self.messages):
            unfinished = offset_of(self.messages[done])
            return unfinished if held is None else min(held[0], unfinished)
        return None if held is None else held[0]


class Window:
    """The books of one partition during one assignment; read and written by the owner thread only."""

    __slots__ = ("_pieces", "committed", "delivered", "lost", "position")

    def __init__(self, position: int | None = None) -> None:
        self.position = position
        """Next offset expected from the broker; None before the first message."""
        self.committed: int | None = None
        """Last offset asked to be committed in this assignment; None when that is to be done again."""
        self.delivered = 0
        """Handled messages whose outputs are known to be delivered, to be counted yet."""
        self.lost = 0
        """Handled messages that lost an output, to be counted yet."""
        self._pieces: list[Piece] = []

    def opened(self, piece: Piece) -> None:
        """Take up messages that were read."""
        self._pieces.append(piece)
        after = offset_of(piece.messages[-1]) + 1
        self.position = after if self.position is None else max(self.position, after)

    def committable(self) -> int | None:
        """Return the next offset to fetch after a restart: everything below it is answered for."""
        lows = [(piece, piece.lowest()) for piece in self._pieces]
        for piece in self._pieces:
            delivered, lost = piece.answers()
            self.delivered += delivered
            self.lost += lost
        self._pieces = [piece for piece, low in lows if low is not None]
        return min((low for _, low in lows if low is not None), default=self.position)

    def due(self) -> int | None:
        """Return what to commit now, None when nothing is new."""
        offset = self.committable()
        if offset is None or (self.committed is not None and offset <= self.committed):
            return None
        return offset

    def answers(self) -> tuple[int, int]:
        """Take the numbers of handled messages whose outputs are known to be delivered, and to be lost."""
        known = self.delivered, self.lost
        self.delivered = self.lost = 0
        return known

    def cancel(self) -> None:
        """Let nothing further start."""
        for piece in self._pieces:
            piece.cancelled = True

    def quiet(self) -> bool:
        """Tell whether no handler runs and no delivery report is awaited."""
        return not any(piece.running or piece.held for piece in self._pieces)


def offset_of(raw: RawMessage) -> int:
    """Return a consumed message's offset, which the client types as optional."""
    offset: int | None = raw.offset()
    return -1 if offset is None else offset
