"""Threads, events, queues and a clock for one real thread: who goes on is decided by chance with a seed.

Each simulated thread is a greenlet, so the code that is simulated is the code that is shipped: it blocks where it
blocks in production (a poll, an event, a queue, a sleep), and there another one goes on. Nothing else switches. Time
passes only when nobody can go on, and then until somebody can. Like threads, greenlets have a context of their own.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from math import inf
from queue import Empty
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from shadowstream.testing import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Over(GreenletExit):
    """The play is over, or whoever is told this belongs to a process that was killed."""


class Process:
    """Some threads that stop, go on and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False


class Actor(greenlet):
    """One simulated thread."""

    def __init__(self, stage: Stage, process: Process, work: Callable[[], None], name: str) -> None:
        super().__init__(work, stage.hub)
        self.process = process
        self.name = name
        self.wakes_at = -inf
        self.woken = False

    def __repr__(self) -> str:
        return f"<{self.process.name}/{self.name}>"

    def ready(self, now: float) -> bool:
        return (self.woken or self.wakes_at <= now) and not self.process.frozen


class Stage:
    """Lets one actor at a time go on."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.clock = StageClock(self)
        self.hub = getcurrent()
        self.over = False
        self._actors: list[Actor] = []
        self._graveyard: list[Actor] = []

    def spawn(self, process: Process, work: Callable[[], None], name: str) -> Actor:
        """Start a thread of a process."""
        actor = Actor(self, process, work, name)
        self._actors.append(actor)
        return actor

    def kill(self, process: Process) -> None:
        """Let no thread of a process go on; not even its ``finally`` blocks, as with ``kill -9``."""
        process.dead = True
        self._graveyard += [actor for actor in self._actors if actor.process is process]
        self._actors = [actor for actor in self._actors if actor.process is not process]

    def step(self) -> bool:
        """Let somebody go on; False when nobody ever will."""
        now = self.clock.monotonic()
        ready = [actor for actor in self._actors if actor.ready(now)]
        if not ready:
            moment = min((actor.wakes_at for actor in self._actors if not actor.process.frozen), default=inf)
            if moment == inf:
                return False
            self.clock.set(moment)
            ready = [actor for actor in self._actors if actor.ready(moment)]
        actor = ready[0] if len(ready) == 1 else ready[int(self.chance.random() * len(ready))]
        actor.switch()
        if actor.dead:
            self._actors.remove(actor)
        return True

    def here(self) -> Actor | None:
        """Return the thread that is on stage; None: the director."""
        actor = getcurrent()
        return actor if isinstance(actor, Actor) else None

    def block(self, until: float) -> bool:
        """Wait until a moment, or until somebody wakes this thread; True when somebody did."""
        actor = getcurrent()
        if self.over or not isinstance(actor, Actor) or actor.process.dead:
            raise Over
        actor.wakes_at, actor.woken = until, False
        self.hub.switch()
        if self.over:
            raise Over
        woken, actor.woken = actor.woken, False
        return woken

    def sleep(self, seconds: float) -> None:
        """Do what a handler does that waits for something else."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.block(until)

    def end(self) -> None:
        """Unwind whoever is still somewhere."""
        self.over = True
        for actor in [*self._actors, *self._graveyard]:
            while not actor.dead:
                # What a process says while it is taken apart is not its own word any more.
                with suppress(Exception):
                    actor.throw(Over)


class StageClock(Clock):
    """Time that passes for one thread only when all others wait too."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def advance(self, seconds: float) -> None:
        """Sleep."""
        self.advance_to(self.monotonic() + seconds)

    def advance_to(self, moment_s: float) -> None:
        """Sleep until a moment."""
        if self._stage.here() is None:
            self.set(moment_s)
            return
        while self.monotonic() < moment_s:
            self._stage.block(moment_s)

    def set(self, moment_s: float) -> None:
        """Let time pass for everybody."""
        super().advance_to(moment_s)


class StageEvent(Event):
    """An event that simulated threads wait for."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._waiting: list[Actor] = []

    def set(self) -> None:
        super().set()
        for actor in self._waiting:
            actor.woken = True
        self._waiting.clear()

    def wait(self, timeout: float | None = None) -> bool:
        clock = self._stage.clock
        until = inf if timeout is None else clock.monotonic() + timeout
        actor: Any = self._stage.here()
        while not self.is_set() and clock.monotonic() < until:
            self._waiting.append(actor)
            # Set and cleared again before this thread goes on: it was woken all the same.
            if self._stage.block(until):
                return True
            self._waiting = [each for each in self._waiting if each is not actor]
        return self.is_set()


class StageQueue(Generic[T]):
    """A queue that simulated threads wait at."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._items: deque[T] = deque()
        self._waiting: list[Actor] = []

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            at = int(self._stage.chance.random() * len(self._waiting))
            self._waiting.pop(at).woken = True

    def empty(self) -> bool:
        return not self._items

    def get(self, timeout: float | None = None) -> T:
        clock = self._stage.clock
        until = inf if timeout is None else clock.monotonic() + timeout
        actor: Any = self._stage.here()
        while not self._items:
            if clock.monotonic() >= until:
                raise Empty
            self._waiting.append(actor)
            self._stage.block(until)
            self._waiting = [each for each in self._waiting if each is not actor]
        return self._items.popleft()
