"""Some messages of one partition that are carried in order.

The books cost a few numbers per piece and nothing per message. Traps:

* A strand advances `Piece.done` while the owner thread reads it; each is one attribute read or write
  (``test_a_commit_never_passes_an_unfinished_message``).
* What a handler produced, and what is to be settled by hand, is not answered for when the handler returns:
  `Piece.held` keeps the offset back (``test_an_undelivered_output_keeps_its_source_uncommitted``).
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

from shadowstream.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.transactions.ledger import Ledger
    from shadowstream.kafka.transactions.outbox import Outbox

__all__ = ["Piece", "Token", "offset_of", "source"]

Token = tuple[int, int]

source: ContextVar[Piece | Outbox | None] = ContextVar("shadowstream.source", default=None)
"""The piece whose message is being handled, so that what a handler produces holds its source back.

In a transactional topic it is where what the handler produces waits for its source's transaction.
"""

HANDLED = Outcome.HANDLED


class Piece:
    """A strand's share of one partition's batch; carried in order."""

    __slots__ = (
        "_failed",
        "_given",
        "_together",
        "_tokens",
        "cancelled",
        "count",
        "done",
        "ends",
        "held",
        "ledger",
        "left",
        "messages",
        "on_lost_output",
        "running",
        "size",
        "strand",
    )

    def __init__(self, messages: Sequence[RawMessage], strand: Hashable = None) -> None:
        self.messages = messages
        """What was read, in offset order; emptied once all of it is done."""
        self.strand = strand
        """Pieces of one strand are carried one after the other; None: beside all others."""
        self.count = len(messages)
        """How many they were."""
        self.done = 0
        """How many of them are finished; written by the strand only."""
        self.held: set[Token] = set()
        """Offsets that wait for a delivery report or for being settled by hand: (offset, serial)."""
        self.left: Sequence[int] = ()
        """Offsets, ascending, that are among the finished ones and are not: their work was called off."""
        self.cancelled = False
        """Set by the owner: start no further message."""
        self.running = False
        """True from the first message started to the last one finished; written by the strand only."""
        self.size = sum(map(len, messages))
        """Payload bytes."""
        self.on_lost_output: Callable[[RawMessage, str], object] | None = None
        """Told when an output of a message was not delivered."""
        self.ledger: Ledger | None = None
        """Where outputs wait for the transaction that will commit their source; None: they go at once."""
        self.ends: dict[int, Outcome | None] = {}
        """Offsets of messages whose end depends on what is held, and how it looks so far: None while it runs."""
        self._given: Sequence[RawMessage] = ()
        self._together: dict[int, tuple[int, ...]] = {}
        self._tokens = count()
        self._failed: dict[int, object] = {}

    def hold_current(self) -> tuple[Token, RawMessage] | None:
        """Keep what is being handled uncommitted until `release`; None when nothing is being handled."""
        # Each output asks: what `at_hand` and `learn_late` would do costs twice as much by calling them.
        if self.done >= len(self.messages):
            return None
        raw = self._given[0] if self._given else self.messages[self.done]
        token = self.hold(raw)
        self.ends.setdefault(token[0], None)
        if self._given:
            self._together[token[0]] = tuple(map(offset_of, self._given))
        return token, raw

    def at_hand(self) -> Sequence[RawMessage]:
        """Return what the handler is given now: one message, or those of a batch; nothing when all is done."""
        if self.done >= len(self.messages):
            return ()
        return self._given or self.messages[self.done : self.done + 1]

    def learn_late(self, raws: Sequence[RawMessage]) -> None:
        """Leave open how what is at hand ends: that is known once what it produced is out."""
        first = offset_of(raws[0])
        self.ends.setdefault(first, None)
        if self._given:
            self._together[first] = tuple(map(offset_of, raws))

    def give(self, messages: Sequence[RawMessage]) -> None:
        """Say which messages the handler is given together next; without that, it is the first that is not done."""
        self._given = messages
        self._together.pop(offset_of(messages[0]), None)

    def leave(self, messages: Sequence[RawMessage]) -> None:
        """Say what will not be done, before all around it is said to be finished."""
        self.left = sorted(map(offset_of, messages))

    def hold(self, raw: RawMessage) -> Token:
        """Keep one message uncommitted until `release`."""
        token = (offset_of(raw), next(self._tokens))
        self.held.add(token)
        return token

    def release(self, token: Token) -> None:
        """Let go of what `hold` kept."""
        self.held.discard(token)

    def fail(self, raw: RawMessage) -> bool:
        """Take note that a message goes to the dead letters; False when it did before."""
        ours = object()
        return self._failed.setdefault(offset_of(raw), ours) is ours

    def ended(self, offset: int, outcome: Outcome) -> bool:
        """Take note how a handler ended; True when how its message ended is known only once nothing is held."""
        if outcome is HANDLED and offset in self.ends:
            # Settled by hand before its handler returned: that stands.
            self.ends[offset] = self.ends[offset] or outcome
            return True
        self.ends.pop(offset, None)
        return False

    def answers(self) -> Counter[Outcome]:
        """Take out the messages of which nothing is held any more: how many ended how."""
        known: Counter[Outcome] = Counter()
        if not self.ends:
            return known
        waiting = {offset for offset, _ in self._snapshot()}
        for offset, outcome in list(self.ends.items()):
            if outcome is not None and offset not in waiting and not self._awaits(offset):
                del self.ends[offset]
                messages = len(self._together.get(offset, "1"))
                known[Outcome.FAILED if offset in self._failed else outcome] += messages
        return known

    def awaits_commit(self) -> bool:
        """Tell whether how some of its messages ended is known only when a transaction is committed."""
        return self.ledger is not None and any(map(self._awaits, list(self.ends)))

    def _awaits(self, offset: int) -> bool:
        return self.ledger is not None and offset in self.ledger.awaited

    def close(self) -> None:
        """Let go of the messages if all are done: the books keep the piece until the next commit, not its bytes."""
        if self.done == self.count:
            self.messages = ()

    def lowest(self) -> int | None:
        """Return the lowest offset not answered for, None when all are."""
        # What keeps an offset back is written before `done` is, and read after it.
        done, messages = self.done, self.messages
        lows = [offset for offset, _ in self._snapshot()] if self.held else []
        lows += self.left[:1]
        if done < len(messages):
            lows.append(offset_of(messages[done]))
        return min(lows, default=None)

    def unfinished(self) -> Iterator[tuple[int, int]]:
        """Give ``(first, after the last)`` of what is not answered for, in no order and some of it twice."""
        done, messages = self.done, self.messages
        yield from ((each, each + 1) for each in self.left)
        if self.held:
            for offset, _ in self._snapshot():
                yield from ((each, each + 1) for each in self._together.get(offset, (offset,)))
        if done < len(messages):
            first, last = offset_of(messages[done]), offset_of(messages[-1])
            if last - first == len(messages) - done - 1:
                yield first, last + 1
            else:
                yield from ((offset, offset + 1) for offset in map(offset_of, messages[done:]))

    def _snapshot(self) -> set[Token]:
        # Another thread may add or discard meanwhile, and set() copies in one step.
        return set(self.held)


def offset_of(raw: RawMessage) -> int:
    """Return a consumed message's offset, which the client types as optional."""
    offset: int | None = raw.offset()
    return -1 if offset is None else offset
