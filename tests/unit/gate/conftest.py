"""What the gate tests share: settings of a lane, and a hook that remembers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from sys import getswitchinterval, setswitchinterval
from threading import Barrier, Lock, Thread
from typing import TYPE_CHECKING

import pytest

from shadowstream.events import Event, Listeners
from shadowstream.gate import Gates
from tests.lanes import lane_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MakeGates = Callable[..., Gates]
Waits = Callable[[Lock, Callable[[], object]], bool]
Hammer = Callable[[Callable[[int], int]], list[int]]


class Ear:
    """A hook that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def on(self, event: Event) -> None:
        self.heard.append(event)


@dataclass
class Held:
    """A guard whose level is held by the test."""

    level: float = 1.0
    ticks: int = 0
    normal: dict[str, float] = field(default_factory=dict)

    def hold(self, level: float, passed: int = 1, **normal: float) -> None:
        self.level, self.normal, self.ticks = level, normal, self.ticks + passed

    def release(self) -> None:
        """Be released, which changes nothing here."""


class Elsewhere:
    """A hard limit that is kept elsewhere, by so many."""

    def __init__(self, members: int) -> None:
        self.members = members
        self.adopted: list[tuple[float, int | None, float]] = []
        self.taken = 0

    def check(self, now: float) -> float:
        return 0.0

    def take(self) -> None:
        self.taken += 1

    def tokens(self, now: float) -> float:
        return 0.0

    def adopt(self, rate_per_s: float, burst: int | None, now: float) -> None:
        self.adopted.append((rate_per_s, burst, now))


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def gates(ear: Ear) -> MakeGates:
    """Make one lane's gates; keywords are fields of LaneSettings."""

    def made(**fields: object) -> Gates:
        return Gates(lane_of(**fields), Listeners([ear]))

    return made


@pytest.fixture
def waits_for() -> Waits:
    """Tell whether some work stands still while the lock is held, and goes on when it is free."""

    def waits(lock: Lock, work: Callable[[], object]) -> bool:
        thread = Thread(target=work, daemon=True)
        with lock:
            thread.start()
            thread.join(0.05)
            stood = thread.is_alive()
        thread.join(10)
        return stood and not thread.is_alive()

    return waits


@pytest.fixture
def hammer() -> Iterator[Hammer]:
    """Run a function on 8 threads at once, switching between them as often as CPython can."""
    before = getswitchinterval()
    setswitchinterval(1e-6)

    def run(work: Callable[[int], int]) -> list[int]:
        barrier = Barrier(8)

        def started(number: int) -> int:
            barrier.wait()
            return work(number)

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(started, range(8)))

    yield run
    setswitchinterval(before)
