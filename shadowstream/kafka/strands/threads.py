"""Hands that are threads, for sync handlers.

The engine is a coroutine, and nothing in it suspends while a thread carries it, except a message that rests before its
next attempt: then the thread puts the coroutine away and takes up another. Each piece has a context of its own, so a
coroutine may be continued by any thread. Traps:

* Hands are daemon threads: a handler that never returns must not keep the process alive
  (``test_close_ends_although_a_handler_never_returns``).
* A hand that meets an error of ours, not of a handler, ends the lane: going on would lose a message silently.
* A rest that is put away must wake a hand that already waits, or nobody minds the time
  (``test_a_rest_ends_in_time_although_its_hand_is_busy_elsewhere``).
"""

from __future__ import annotations

import threading
from contextvars import Context, copy_context
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from types import coroutine
from typing import TYPE_CHECKING, NamedTuple

from shadowstream.kafka.clients import logger_of
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.strands.load import Load
from shadowstream.kafka.strands.order import Turns, cutter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Self

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.engine import Engine
    from shadowstream.kafka.strands.hands import Steering

__all__ = ["Threads"]

log = logger_of("strands")

SLICE_S = 0.1


class Nudge(Enum):
    """Wakes a hand that waits, so that it looks at the rests anew."""

    NOW = 0


class Errand(NamedTuple):
    """What the only hand carries, and the helm with it."""

    pieces: list[Piece]
    helm: Steering


class Trip:
    """A piece on its way through the engine."""

    __slots__ = ("context", "course", "piece")

    def __init__(self, piece: Piece, course: Coroutine[float, None, None]) -> None:
        self.piece = piece
        self.course = course
        self.context: Context = copy_context()


def daemon(work: Callable[[], None], name: str) -> None:
    """Start a thread that does not keep the process alive."""
    threading.Thread(target=work, name=name, daemon=True).start()


class Threads:
    """All threads of one topic in one lane; a simulation gives its own kind of thread, and of queue."""

    def __init__(
        self,
        engine: Engine,
        ended: Callable[[BaseException | None], None],
        stopping: threading.Event,
        *,
        spawn: Callable[[Callable[[], None], str], None] = daemon,
        queue: Callable[[], SimpleQueue[Piece | Trip | Errand | Nudge | None]] = SimpleQueue,
    ) -> None:
        self.engine = engine
        topic = engine.binding.topic
        self._ended = ended
        self._stopping = stopping
        self._now = engine.binding.clock.monotonic
        self.pieces: Callable[[int, list[RawMessage]], list[Piece]] = cutter(topic, apart=engine.binding.returns)
        self._load = Load(topic, engine.unsettled)
        self.level, self.waiting = self._load.level, self._load.waiting
        self._turns = Turns()
        self._lock = threading.Lock()
        """Guards the turns, the load and the rests; held for moments, never while a handler runs."""
        self._ready = queue()
        self._rests: list[tuple[float, int, Trip]] = []
        self._serial = count()
        self._hands = topic.concurrency
        for number in range(topic.concurrency):
            spawn(self._work, f"{engine.binding.lane}-{topic.name}-{number}")

    def put(self, pieces: list[Piece]) -> None:
        """Hand pieces over, in order."""
        for piece in self.taken(pieces):
            self._ready.put(piece)

    def taken(self, pieces: list[Piece]) -> list[Piece]:
        """Count pieces as ours; returns those whose turn it is."""
        with self._lock:
            for piece in pieces:
                self._load.taken(piece)
            return list(filter(self._turns.begins, pieces))

    def leader(self) -> Self | None:
        """Return this crew if it is one hand that has nothing to do; only the owner puts, so that stays true."""
        return None if self._hands > 1 or self._load.waiting() else self

    def lead(self, pieces: list[Piece], helm: Steering) -> None:
        """Let the hand carry these and then poll for itself, until it has something else to do or is relieved."""
        self._ready.put(Errand(self.taken(pieces), helm))

    def recall(self) -> None:
        """Let everything that rests go on, so that cancelled pieces end; the others go on resting."""
        with self._lock:
            woken = [trip for _, _, trip in self._rests if trip.piece.cancelled]
            self._rests = [rest for rest in self._rests if not rest[2].piece.cancelled]
            heapify(self._rests)
        for trip in woken:
            self._ready.put(trip)

    def end(self) -> None:
        """End the threads once they are idle."""
        for _ in range(self._hands):
            self._ready.put(None)

    async def wait(self, seconds: float, piece: Piece) -> None:
        """Keep the thread and wait."""
        until = self._now() + seconds
        while not piece.cancelled and (left := until - self._now()) > 0:
            self._stopping.wait(min(left, SLICE_S))

    async def rest(self, seconds: float, piece: Piece) -> None:
        """Give the thread away until the time has come."""
        if not piece.cancelled:
            await _put_away(self._now() + seconds)

    def _work(self) -> None:
        try:
            while (found := self._next()) is not None:
                if isinstance(found, Errand):
                    self._lead(*found)
                else:
                    self._go_on(found)
        except BaseException as error:
            log.exception("strand_failed topic=%s", self.engine.binding.topic.name)
            self._ended(error)

    def _lead(self, pieces: list[Piece], helm: Steering) -> None:
        while pieces:
            for piece in pieces:
                self._go_on(self._trip(piece))
            pieces = helm.next(free=self._ready.empty() and not self._rests)

    def _trip(self, piece: Piece) -> Trip:
        return Trip(piece, self.engine.carry(piece, self))

    def _next(self) -> Trip | Errand | None:
        """Wait for what may go on: a piece whose turn has come, or one that has rested."""
        while True:
            found = self._rested() if (left_s := self._until_rested()) == 0 else self._got(left_s)
            if isinstance(found, Piece):
                return self._trip(found)
            if found is not Nudge.NOW:
                return found

    def _got(self, wait_s: float | None) -> Piece | Trip | Errand | Nudge | None:
        try:
            return self._ready.get(timeout=wait_s)
        except Empty:
            return Nudge.NOW

    def _until_rested(self) -> float | None:
        """Return for how long nobody's rest ends, None when nobody rests."""
        if not self._rests:
            return None
        with self._lock:
            return max(self._rests[0][0] - self._now(), 0.0) if self._rests else None

    def _rested(self) -> Trip | Nudge:
        with self._lock:
            due = self._rests and self._rests[0][0] <= self._now()
            return heappop(self._rests)[2] if due else Nudge.NOW

    def _go_on(self, trip: Trip) -> None:
        """Carry a piece to its end, or until it rests."""
        try:
            until = trip.context.run(trip.course.send, None)
        except StopIteration:
            self._arrived(trip.piece)
        else:
            with self._lock:
                heappush(self._rests, (until, next(self._serial), trip))
            # Its own window may have been cancelled just before, and then nobody would wake it.
            if trip.piece.cancelled:
                self.recall()
            self._ready.put(Nudge.NOW)

    def _arrived(self, piece: Piece) -> None:
        with self._lock:
            self._load.finished(piece)
            following = self._turns.ends(piece)
        if following is not None:
            self._ready.put(following)
        self._ended(None)


@coroutine
def _put_away(until: float) -> Generator[float, None, None]:
    yield until
