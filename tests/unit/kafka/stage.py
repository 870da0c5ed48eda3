"""One lane or both, put together as a worker would, on a broker in memory, in one thread and on a virtual clock."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import shadowstream as ss
from shadowstream.events import Carried, Event, Listeners
from shadowstream.kafka.clock import Clock
from shadowstream.kafka.strands.load import Load
from shadowstream.kafka.strands.order import Turns, cutter
from shadowstream.kafka.worker.assembly import Ground, Registration, assemble
from shadowstream.lane import Lane
from shadowstream.testing import Broker, MemoryConsumer, MemoryProducer
from shadowstream.testing import Clock as VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.cursor import Cursor, Parts
    from shadowstream.kafka.engine import Engine
    from shadowstream.kafka.offsets import Piece


class _Away:
    """Gives the engine's coroutine out of the hand until a moment."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __await__(self) -> Generator[float, None, None]:
        yield self._until


class Inline:
    """Hands in the test's own thread: what rests comes back when the virtual time has come."""

    def __init__(self, engine: Engine, ended: Callable[[None], None], now: Callable[[], float]) -> None:
        topic = engine.binding.topic
        self.engine = engine
        self.pieces = cutter(topic, apart=engine.binding.returns)
        self._ended = ended
        self._now = now
        self._load = Load(topic, engine.unsettled)
        self.level, self.waiting = self._load.level, self._load.waiting
        self._turns = Turns()
        self._ready: deque[tuple[Piece, Any]] = deque()
        self.rests: list[tuple[float, int, tuple[Piece, Any]]] = []
        self._serial = count()

    def put(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._load.taken(piece)
            if self._turns.begins(piece):
                self._ready.append((piece, self.engine.carry(piece, self)))

    def leader(self) -> None: ...

    def recall(self) -> None:
        woken = [rest for rest in self.rests if rest[2][0].cancelled]
        self.rests = [rest for rest in self.rests if rest not in woken]
        heapify(self.rests)
        self._ready.extend(rest[2] for rest in woken)
        self.work()

    def end(self) -> None: ...

    async def wait(self, seconds: float, piece: Piece) -> None:
        if not piece.cancelled:
            await _Away(self._now() + seconds)

    rest = wait

    def work(self) -> None:
        """Carry everything that can be carried now."""
        while self._ready or (self.rests and self.rests[0][0] <= self._now()):
            piece, course = self._ready.popleft() if self._ready else heappop(self.rests)[2]
            try:
                until = course.send(None)
            except StopIteration:
                self._load.finished(piece)
                if (following := self._turns.ends(piece)) is not None:
                    self._ready.append((following, self.engine.carry(following, self)))
                self._ended(None)
            else:
                heappush(self.rests, (until, next(self._serial), (piece, course)))


class Moment:
    """What the owner thread waits for: the hands go on meanwhile, and time passes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._said = False

    def set(self) -> None:
        self._said = True

    def clear(self) -> None:
        self._said = False

    def wait(self, seconds: float) -> bool:
        self._stage.waits += 1
        self._stage.work()
        if not self._said:
            self._stage.time.advance(seconds)
        return self._said


@dataclass
class Stage:
    """A broker in memory with one configured topic, ``t``, and its lanes."""

    folder: Path
    time: VirtualClock = field(default_factory=VirtualClock)
    chances: deque[float] = field(default_factory=deque)
    """What chance says next; 0.0 when nothing is left."""
    crews: dict[tuple[Lane, str], Inline] = field(default_factory=dict)
    cursors: list[Cursor] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    waits: int = 0
    """How often an owner thread stood still for its hands."""
    max_message_bytes: int = 1_000_000
    broker: Broker = field(init=False)
    settings: ss.Settings = field(init=False)

    def __post_init__(self) -> None:
        self.broker = Broker(self.time, max_message_bytes=self.max_message_bytes)
        sides = ("retry", "shadow.retry", "dlq", "shadow.dlq", "shadow.parked", "quarantine")
        for name in ("t", "shadow.t", *(f"t.{side}" for side in sides)):
            self.broker.create_topic(name)

    def on(self, event: Event) -> None:
        self.events.append(event)

    def configure(self, topic: dict[str, Any], **sections: Any) -> None:
        """Write the configuration and load it; the group stands at the beginning."""
        ours = {"retries": 0, "rest": "30s", "order": "key", "concurrency": 4, **topic}
        kafka = {"bootstrap.servers": "h:1", "group.id": "g"}
        document = {"service": "s", "kafka": kafka, "topics": {"t": ours}, **sections}
        file = self.folder / "shadowstream.yaml"
        file.write_text(json.dumps(document))
        self.settings = ss.load(file, environ={})

    def start(self, lane: Lane, handler: Callable[[Any], object], **more: Any) -> Cursor:
        """Let one lane begin."""
        registration = Registration("t", "c", handler, **more)
        cursor = assemble(self.settings, lane, [registration], Listeners([self]), self._ground())
        self.cursors.append(cursor)
        cursor.begin()
        return cursor

    def _ground(self) -> Ground:
        def crew(engine: Engine, parts: Parts, _loop: object) -> Any:
            made = Inline(engine, parts.ended, self.time.monotonic)
            self.crews[engine.binding.lane, engine.binding.topic.source] = made
            return made

        return Ground(
            consumer=lambda lane, **more: MemoryConsumer(
                {"enable.auto.commit": False, "auto.offset.reset": "earliest", **lane.kafka, **more},
                broker=self.broker,
            ),
            producer=lambda lane, **more: MemoryProducer({**lane.kafka, **more}, broker=self.broker),
            crew=crew,
            event=partial(Moment, self),  # type: ignore[arg-type]
            clock=Clock(self.time.monotonic, self.time.time, lambda: self.chances.popleft() if self.chances else 0.0),
        )

    def run(self, seconds: float) -> None:
        """Let everything happen for a while."""
        until = self.time.monotonic() + seconds
        while self.time.monotonic() < until:
            for cursor in self.cursors:
                cursor.turn()
                self.work()

    def work(self) -> None:
        """Let all hands do what they can do now."""
        for crew in self.crews.values():
            crew.work()

    def messages(self, topic: str) -> list[RawMessage]:
        return [record.message() for record in self.broker.log(topic).records]

    def outcomes(self, topic: str, lane: Lane = Lane.NORMAL) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, Carried) and (event.topic, event.lane) == (topic, lane):
                sums.update({outcome.value: number for outcome, number in event.outcomes.items()})
        return dict(sums)

    def stands(self, lane: Lane) -> dict[str, int]:
        group = "g" if lane is Lane.NORMAL else "g.shadow"
        return {topic: offset for (topic, _), offset in self.broker.stands(group).items()}
