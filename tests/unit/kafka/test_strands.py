"""Who carries what: strands keep the order, hands do the work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.config import Order, TopicSettings
from shadowstream.events import Listeners
from shadowstream.gate import OpenGate
from shadowstream.headers import MarkReader
from shadowstream.kafka.engine import Binding, Engine
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.strands import LaneLoop, Tasks, Threads
from shadowstream.kafka.strands.load import Load
from shadowstream.kafka.strands.order import Turns, cutter
from shadowstream.lane import Lane, Mark, current
from tests.waiting import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shadowstream.kafka.message import Message

MARKED = [("x-shadow", b"1;run=fcst-1111")]


class Exits:
    """Outlets that remember."""

    def __init__(self) -> None:
        self.dead: list[tuple[int, str]] = []

    def dead_letter(self, raw: RawMessage, piece: Piece, error: BaseException, story: object) -> None:
        self.dead.append((raw.offset() or 0, type(error).__name__))

    def serve(self) -> None: ...


@dataclass
class Rig:
    """A crew of one kind, and what a test asks of it."""

    kind: str
    crews: list[Any] = field(default_factory=list)
    exits: Exits = field(default_factory=Exits)
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException | None] = field(default_factory=list)

    def crew(self, handler: Callable[[Message], object], *, lane: Lane = Lane.NORMAL, **topic: Any) -> Threads | Tasks:
        settings = TopicSettings("t", "t", **{"backoff_s": 0.001, "retries": 0, **topic})
        made = handler if self.kind == "threads" or asyncio.iscoroutinefunction(handler) else as_async(handler)
        binding = Binding(lane, settings, "c", made, OpenGate, shared=True)
        engine = Engine(binding, MarkReader(), self.exits, Listeners())  # type: ignore[arg-type]
        if self.kind == "threads":
            self.crews.append(Threads(engine, self.failures.append, self.stopping))
        else:
            self.crews.append(Tasks(engine, self.failures.append, LaneLoop("loop")))
        return self.crews[-1]

    def end(self) -> None:
        self.stopping.set()
        for crew in self.crews:
            crew.end()


def as_async(handler: Callable[[Message], object]) -> Callable[[Message], object]:
    """Let a blocking handler run in an async one, as its users would."""

    async def run(message: Message) -> None:
        await asyncio.to_thread(handler, message)

    return run


@pytest.fixture(params=["threads", "tasks"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param)
    yield rig
    rig.end()


def laid_out(*keys: bytes | None, first: int = 0, headers: Any = None) -> list[RawMessage]:
    return [
        RawMessage(topic="t", partition=0, offset=first + n, key=key, value=b"12345", headers=headers)
        for n, key in enumerate(keys)
    ]


@given(st.lists(st.sampled_from([None, b"a", b"b"]), min_size=1, max_size=20), st.sampled_from(list(Order)))
def test_cut_apart_each_message_is_a_piece_of_the_strand_it_would_be_in(keys: list[bytes | None], order: Order) -> None:
    topic = TopicSettings("t", "t", order=order, concurrency=4)
    together, apart = cutter(topic)(0, laid_out(*keys)), cutter(topic, apart=True)(0, laid_out(*keys))
    assert all(piece.count == 1 for piece in apart)
    assert [(piece.strand, piece.messages[0].offset()) for piece in apart] == [
        (piece.strand, message.offset()) for piece in together for message in piece.messages
    ]


@given(st.lists(st.sampled_from([None, b"a", b"b", b"c"]), min_size=1, max_size=30), st.sampled_from(list(Order)))
def test_every_message_is_in_one_piece_and_in_its_strands_order(keys: list[bytes | None], order: Order) -> None:
    messages = laid_out(*keys)
    pieces = cutter(TopicSettings("t", "t", order=order, concurrency=4))(0, messages)
    offsets = [each.offset() for piece in pieces for each in piece.messages]
    assert sorted(offsets) == list(range(len(keys)))
    assert all(list(piece.messages) == sorted(piece.messages, key=RawMessage.offset) for piece in pieces)
    if order is Order.KEY:
        assert {(piece.strand, each.key()) for piece in pieces for each in piece.messages} == {
            ((0, key), key) for key in keys
        }


def test_messages_without_a_key_stay_in_order() -> None:
    pieces = cutter(TopicSettings("t", "t", order=Order.KEY, concurrency=4))(3, laid_out(None, b"a", None))
    assert [(piece.strand, [each.offset() for each in piece.messages]) for piece in pieces] == [
        ((3, None), [0, 2]),
        ((3, b"a"), [1]),
    ]


def test_one_piece_of_a_strand_is_carried_at_a_time_and_nothing_is_remembered_of_idle_strands() -> None:
    turns = Turns()
    cut = cutter(TopicSettings("t", "t", order=Order.KEY, concurrency=4))
    (first,), (second,), (third,), (other,) = (cut(0, laid_out(key)) for key in (b"a", b"a", b"a", b"b"))
    assert [turns.begins(each) for each in (first, second, third, other)] == [True, False, False, True]
    assert [turns.ends(first), turns.ends(second), turns.ends(third), turns.ends(other)] == [second, third, None, None]
    assert turns._behind == {}


def test_the_order_of_a_key_is_kept_whoever_carries_it(rig: Rig) -> None:
    seen: defaultdict[bytes | None, list[int]] = defaultdict(list)
    crew = rig.crew(lambda message: seen[message.key()].append(message.offset() or 0), order=Order.KEY, concurrency=8)
    keys = [bytes([n * 7 % 5]) for n in range(200)]
    for start in range(0, 200, 20):
        crew.put(crew.pieces(0, laid_out(*keys[start : start + 20], first=start)))
    until(lambda: crew.waiting() == 0)
    assert {key: sorted(offsets) for key, offsets in seen.items()} == seen
    assert sum(map(len, seen.values())) == 200
    assert crew.level() == 0


def test_a_few_large_messages_fill_a_topic_as_many_small_ones_do() -> None:
    load = Load(TopicSettings("t", "t", max_messages=1000, max_bytes=4_000_000), lambda: 0)
    piece = Piece([RawMessage(topic="t", partition=0, offset=each, value=bytes(900_000)) for each in range(5)])
    load.taken(piece)
    assert load.level() == pytest.approx(4_500_000 / 4_000_000)
    load.finished(piece)
    assert load.level() == 0


@pytest.mark.parametrize("order", [Order.KEY, Order.NONE])
def test_a_stuck_message_holds_up_its_own_strand_only(rig: Rig, order: Order) -> None:
    door, seen = threading.Event(), []

    def handler(message: Message) -> None:
        if message.offset() == 0:
            door.wait(DEADLINE_S)
        seen.append(message.offset())

    crew = rig.crew(handler, order=order, concurrency=2)
    crew.put(crew.pieces(0, laid_out(b"a", b"b", b"a", b"c", b"b")))
    free = [1, 3, 4] if order is Order.KEY else [1, 2, 3, 4]
    until(lambda: sorted(seen) == free)
    door.set()
    until(lambda: crew.waiting() == 0)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_as_many_handlers_run_at_once_as_the_topic_says(rig: Rig) -> None:
    inside, most, door, lock = [0], [0], threading.Event(), threading.Lock()

    def handler(_: Message) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        door.wait(DEADLINE_S)
        with lock:
            inside[0] -= 1

    crew = rig.crew(handler, order=Order.NONE, concurrency=3)
    crew.put(crew.pieces(0, laid_out(*[None] * 9)))
    until(lambda: inside[0] == 3)
    door.set()
    until(lambda: crew.waiting() == 0)
    assert most == [3]


def test_a_message_that_rests_before_its_next_attempt_leaves_its_hand_to_others(rig: Rig) -> None:
    seen: list[int | None] = []

    def handler(message: Message) -> None:
        seen.append(message.offset())
        if message.offset() == 0 and seen.count(0) == 1:
            raise ValueError

    crew = rig.crew(handler, order=Order.KEY, concurrency=2, retries=1, backoff_s=0.3)
    crew.put(crew.pieces(0, laid_out(b"a", b"a", *[bytes([n]) for n in range(8)])))
    until(lambda: crew.waiting() == 0)
    assert sorted(seen[:9]) == [0, *range(2, 10)], "the others did not wait"
    assert seen[9:] == [0, 1], "its own strand did"


def test_a_rest_ends_in_time_although_its_hand_is_busy_elsewhere(rig: Rig) -> None:
    door, seen = threading.Event(), []

    def handler(message: Message) -> None:
        seen.append(message.offset())
        if message.offset() == 0 and seen.count(0) == 1:
            raise ValueError
        if message.offset() == 1:
            door.wait(DEADLINE_S)

    crew = rig.crew(handler, order=Order.NONE, concurrency=2, retries=1, backoff_s=0.05)
    crew.put(crew.pieces(0, laid_out(None)))
    crew.put(crew.pieces(0, laid_out(None, first=1)))
    until(lambda: seen.count(0) == 2)
    door.set()
    until(lambda: crew.waiting() == 0)


def test_what_rests_ends_at_once_when_it_is_recalled(rig: Rig) -> None:
    failed = threading.Event()

    def handler(_: Message) -> None:
        failed.set()
        raise ValueError

    crew = rig.crew(handler, order=Order.NONE, concurrency=2, retries=1, backoff_s=5.0)
    pieces = crew.pieces(0, laid_out(None, None))
    crew.put(pieces)
    assert failed.wait(DEADLINE_S)
    began = time.monotonic()
    for piece in pieces:
        piece.cancelled = True
    crew.recall()
    until(lambda: crew.waiting() == 0)
    assert time.monotonic() - began < 2.0
    assert [piece.lowest() for piece in pieces] == [0, 1]
    assert rig.exits.dead == []


def test_the_lane_follows_an_async_handler_everywhere() -> None:
    seen: dict[str, Mark | None] = {}
    pool = ThreadPoolExecutor(1)

    async def task() -> None:
        seen["task"] = current()

    async def handler(_: Message) -> None:
        loop = asyncio.get_running_loop()
        seen["handler"] = current()
        called = loop.create_future()
        loop.call_soon(lambda: called.set_result(current()))
        seen["callback"] = await called
        seen["to_thread"] = await asyncio.to_thread(current)
        seen["executor"] = await loop.run_in_executor(None, current)
        seen["own pool"] = await loop.run_in_executor(pool, current)
        await asyncio.create_task(task())
        seen["done"] = current()

    rig = Rig("tasks")
    crew = rig.crew(handler, lane=Lane.SHADOW)
    crew.put(crew.pieces(0, laid_out(b"a", headers=MARKED)))
    until(lambda: "done" in seen)
    rig.end()
    pool.shutdown()
    assert {mark and mark.run for mark in seen.values()} == {"fcst-1111"}
    assert len(seen) == 7


def test_what_one_handler_leaves_in_its_context_another_strand_does_not_see(rig: Rig) -> None:
    mine: ContextVar[int] = ContextVar("mine", default=0)
    seen = []

    def handler(_: Message) -> None:
        seen.append(mine.get())
        mine.set(1)

    crew = rig.crew(handler, order=Order.NONE, concurrency=2)
    crew.put(crew.pieces(0, laid_out(*[None] * 6)))
    until(lambda: crew.waiting() == 0)
    assert seen == [0] * 6


def test_the_end_of_the_loop_cancels_what_handlers_left_behind() -> None:
    cancelled = threading.Event()

    async def straggler() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def handler(_: Message) -> None:
        handler.left = asyncio.create_task(straggler())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    rig = Rig("tasks")
    crew = rig.crew(handler)
    crew.put(crew.pieces(0, laid_out(b"a")))
    until(lambda: crew.waiting() == 0)
    rig.end()
    assert cancelled.wait(DEADLINE_S)


def test_an_error_of_ours_is_told_to_the_lane(rig: Rig) -> None:
    crew = rig.crew(lambda _: None)
    crew.engine._line = None  # type: ignore[assignment] # anything that is not a handler's fault
    crew.put(crew.pieces(0, laid_out(b"a")))
    until(lambda: any(isinstance(failure, TypeError) for failure in rig.failures))
