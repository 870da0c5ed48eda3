"""Hands that are tasks on the lane's one event loop, for async handlers.

Everything here but `put`, `recall` and `end` runs on the loop's thread, so nothing needs a lock. Traps:

* ``loop.run_in_executor`` copies no context, and a shadow message's work would go on as normal in the pool's thread:
  this loop's does (``test_the_lane_follows_an_async_handler_everywhere``).
* The owner wakes the loop once for a batch, not for each piece: that is a system call.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from shadowstream.kafka.clients import logger_of
from shadowstream.kafka.strands.load import Load
from shadowstream.kafka.strands.order import Turns, cutter

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Unpack

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.engine import Engine
    from shadowstream.kafka.offsets import Piece

__all__ = ["LaneLoop", "Tasks"]

log = logger_of("strands")

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
END_S = 1.0
"""How long the end of the loop waits for tasks that handlers left behind and that were cancelled."""


class _ContextLoop(asyncio.SelectorEventLoop):
    """An event loop whose thread pools know the lane."""

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """Run a function in a pool, in the caller's context; another process gets its arguments and no more."""
        if isinstance(executor, ProcessPoolExecutor):
            return super().run_in_executor(executor, func, *args)
        return super().run_in_executor(executor, copy_context().run, func, *args)


class LaneLoop:
    """One lane's event loop, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.loop: asyncio.AbstractEventLoop
        """Where the lane's async handlers run."""
        self._done = asyncio.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._began.wait()

    def end(self) -> None:
        """Cancel what is left and close the loop; a task that will not end is left behind after a second."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._done.set)
            self._thread.join(END_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_ContextLoop) as runner:
            self.loop = runner.get_loop()
            runner.run(self._until_done())

    async def _until_done(self) -> None:
        self._began.set()
        await self._done.wait()


class Tasks:
    """All tasks of one topic in one lane."""

    def __init__(self, engine: Engine, ended: Callable[[BaseException | None], None], lane_loop: LaneLoop) -> None:
        self.engine = engine
        topic = engine.binding.topic
        self._ended = ended
        self._loop = lane_loop
        self.pieces: Callable[[int, list[RawMessage]], list[Piece]] = cutter(topic, apart=engine.binding.returns)
        self._load = Load(topic, engine.unsettled)
        self.level, self.waiting = self._load.level, self._load.waiting
        self._turns = Turns()
        self._ready: deque[Piece] = deque()
        self._free = topic.concurrency
        self._returning: deque[asyncio.Future[None]] = deque()
        """Those that have rested and want a hand again; they come first."""
        self._rests: dict[asyncio.Future[None], Piece] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, pieces: list[Piece]) -> None:
        """Hand pieces over, in order."""
        for piece in pieces:
            self._load.taken(piece)
        self._loop.loop.call_soon_threadsafe(self._take_up, pieces)

    def leader(self) -> None:
        """Return nobody: an event loop must not wait for messages."""

    def recall(self) -> None:
        """Let everything that rests in a cancelled piece go on, so that it ends."""
        self._loop.loop.call_soon_threadsafe(self._wake_cancelled)

    def end(self) -> None:
        """End the loop, once for all topics of the lane."""
        self._loop.end()

    async def wait(self, seconds: float, piece: Piece) -> None:
        """Keep the hand and wait."""
        if piece.cancelled:
            return
        loop = self._loop.loop
        woken = loop.create_future()
        self._rests[woken] = piece
        timer = loop.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            del self._rests[woken]

    async def rest(self, seconds: float, piece: Piece) -> None:
        """Give the hand away until the time has come and one is free again."""
        self._free += 1
        self._start()
        await self.wait(seconds, piece)
        if self._free:
            self._free -= 1
        else:
            turn = self._loop.loop.create_future()
            self._returning.append(turn)
            await turn

    def _take_up(self, pieces: list[Piece]) -> None:
        self._ready.extend(filter(self._turns.begins, pieces))
        self._start()

    def _start(self) -> None:
        while self._free and (self._returning or self._ready):
            self._free -= 1
            if self._returning:
                _wake(self._returning.popleft())
            else:
                piece = self._ready.popleft()
                task = self._loop.loop.create_task(self._carry(piece))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _carry(self, piece: Piece) -> None:
        try:
            await self.engine.carry(piece, self)
        except asyncio.CancelledError:
            # The loop ends, and what was not settled will be read again.
            raise
        except BaseException as error:
            log.exception("strand_failed topic=%s", self.engine.binding.topic.name)
            self._ended(error)
            raise
        self._load.finished(piece)
        if (following := self._turns.ends(piece)) is not None:
            self._ready.append(following)
        self._free += 1
        self._ended(None)
        self._start()

    def _wake_cancelled(self) -> None:
        for woken, piece in self._rests.items():
            if piece.cancelled:
                _wake(woken)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
