"""One message, one straight line: what happens to each kind of message, without Kafka."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage

from shadowstream.config import TopicSettings
from shadowstream.errors import SetupError
from shadowstream.events import Carried, Event, Listeners, Outcome
from shadowstream.gate import OpenGate, Ticket, Verdict
from shadowstream.headers import NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.kafka.engine import Binding, Engine, fate
from shadowstream.kafka.offsets import Piece, source
from shadowstream.kafka.outlets import Interrupted
from shadowstream.lane import Lane, current, is_shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.kafka.labels import Story
    from shadowstream.kafka.message import Batch, Message

MARKED = [("x-shadow", b"1;run=fcst-1111")]
FAST = TopicSettings("t", "t", retries=2, backoff_s=0.001)


class Exits:
    """Outlets that remember."""

    def __init__(self) -> None:
        self.copies: list[tuple[str, int, str]] = []
        self.full = False

    def park(self, raw: RawMessage, piece: Piece) -> None:
        self._keep("park", raw, "")

    def quarantine(self, raw: RawMessage, piece: Piece, reason: str) -> None:
        self._keep("quarantine", raw, reason)

    def dead_letter(self, raw: RawMessage, piece: Piece, error: BaseException, story: Story) -> None:
        self._keep("dlq", raw, type(error).__name__)

    def _keep(self, kind: str, raw: RawMessage, why: str) -> None:
        if self.full:
            raise Interrupted
        self.copies.append((kind, raw.offset() or 0, why))


class Says:
    """A gate that gives the tickets it was given, then admits, and remembers what it was told back."""

    def __init__(self, *tickets: Ticket) -> None:
        self.tickets = list(tickets)
        self.told: list[Outcome] = []

    def enter(self, now: float, work: object = None) -> Ticket:
        return self.tickets.pop(0) if self.tickets else Ticket()

    def leave(self, ticket: Ticket, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        self.told.append(outcome)

    def level(self, now: float) -> None:
        return None


class Here:
    """The test's own hands."""

    async def wait(self, seconds: float, piece: Piece) -> None:
        until = time.monotonic() + seconds
        while not piece.cancelled and time.monotonic() < until:  # noqa: ASYNC110 - the test cancels from a thread
            await asyncio.sleep(0)

    rest = wait


@dataclass
class Heard:
    """A hook that remembers."""

    events: list[Event] = field(default_factory=list)

    def on(self, event: Event) -> None:
        self.events.append(event)

    def total(self, name: str) -> dict[str, int]:
        sums: dict[str, int] = {}
        for event in self.events:
            assert isinstance(event, Carried)
            for key, count in getattr(event, name).items():
                sums[key] = sums.get(key, 0) + count
        return sums


@dataclass
class Rig:
    """An engine and everything around it that a test looks at."""

    lane: Lane = Lane.NORMAL
    handler: Callable[[Any], object] = lambda _: None
    gate: Any = field(default_factory=OpenGate)
    shared: bool = True
    topic: TopicSettings = FAST
    exits: Exits = field(default_factory=Exits)
    heard: Heard = field(default_factory=Heard)
    hands: Here = field(default_factory=Here)
    heeded: bool = True
    timeout_s: float | None = None
    batch: int | None = None
    by_hand: bool = False
    engine: Engine = field(init=False)

    def carry(
        self, *headers: list[tuple[str, bytes | None]] | None, before: Callable[[Piece], None] | None = None
    ) -> Piece:
        binding = Binding(
            self.lane,
            self.topic,
            "command",
            self.handler,
            lambda: self.gate,
            self.shared,
            timeout_s=self.timeout_s,
            batch=self.batch,
            by_hand=self.by_hand,
        )
        heard = [self.heard] if self.heeded else []
        self.engine = Engine(binding, MarkReader(), self.exits, Listeners(heard))  # type: ignore[arg-type]
        piece = Piece(
            [
                RawMessage(topic="t", partition=3, offset=number, value=b"{}", headers=each)
                for number, each in enumerate(headers)
            ]
        )
        if before is not None:
            before(piece)
        asyncio.run(self.engine.carry(piece, self.hands))
        return piece


def test_a_normal_message_is_handled_and_settled() -> None:
    seen: list[int | None] = []
    rig = Rig(handler=lambda message: seen.append(message.offset()))
    piece = rig.carry(None, [("trace", b"1")])
    assert seen == [0, 1]
    assert piece.lowest() is None
    assert rig.heard.total("outcomes") == {"handled": 2}
    assert rig.heard.total("verdicts") == {"admit": 2}


def test_the_normal_cursor_steps_over_shadow_and_the_shadow_cursor_over_normal() -> None:
    for lane, expected in ((Lane.NORMAL, [0, 2]), (Lane.SHADOW, [1])):
        seen: list[int] = []
        rig = Rig(lane=lane, handler=lambda message, seen=seen: seen.append(message.offset()))
        piece = rig.carry(None, MARKED, [])
        assert seen == expected
        assert piece.done == 3
        assert sum(event.stepped_over for event in rig.heard.events if isinstance(event, Carried)) == 3 - len(expected)


def test_the_handler_runs_in_its_messages_lane_and_the_lane_is_left_afterwards() -> None:
    runs: list[str | None] = []

    def handler(_: object) -> None:
        mark = current()
        runs.append(mark and mark.run)

    Rig(lane=Lane.SHADOW, handler=handler).carry(MARKED, [("x-shadow", b"1;run=other")])
    Rig(lane=Lane.NORMAL, handler=handler).carry(None)
    assert runs == ["fcst-1111", "other", None]
    assert current() is None


def test_an_async_handler_runs_in_its_lane_too() -> None:
    runs: list[str | None] = []

    async def handler(_: object) -> None:
        await asyncio.sleep(0)
        mark = await asyncio.create_task(asyncio.to_thread(current))
        runs.append(mark and mark.run)

    Rig(lane=Lane.SHADOW, handler=handler).carry(MARKED, [("x-shadow", b"1;run=other")])
    assert runs == ["fcst-1111", "other"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), StopIteration(), MemoryError(), GeneratorExit()]
)
def test_a_handler_that_raises_anything_is_recorded_and_the_next_runs(error: BaseException) -> None:
    def handler(message: RawMessage) -> None:
        if message.offset() == 0:
            raise error

    gate = Says()
    rig = Rig(handler=handler, gate=gate)
    piece = rig.carry(None, None)
    assert piece.done == 2
    assert rig.exits.copies == [("dlq", 0, type(error).__name__)]
    assert rig.heard.total("outcomes") == {"failed": 1, "handled": 1}
    assert gate.told == [Outcome.FAILED] * 3 + [Outcome.HANDLED]


@pytest.mark.parametrize("lane", list(Lane))
def test_without_a_gate_and_a_listener_everything_happens_as_with_them(lane: Lane) -> None:
    seen: list[tuple[int, bool]] = []

    def handler(message: Message) -> None:
        seen.append((message.offset() or 0, is_shadow()))
        if message.offset() == 1:
            raise SystemExit

    headers = None if lane is Lane.NORMAL else MARKED
    rig = Rig(lane=lane, handler=handler, heeded=False)
    piece = rig.carry(headers, headers, [("x-shadow", b"1;run=a;exp=1")], headers)
    shadow = lane is Lane.SHADOW
    assert seen == [(0, shadow), (1, shadow), (1, shadow), (1, shadow), (3, shadow)]
    assert rig.exits.copies == [("dlq", 1, "SystemExit")]
    assert piece.done == 4


def test_a_handler_that_succeeds_on_a_retry_is_handled_once() -> None:
    attempts = itertools.count()

    def handler(_: object) -> None:
        if next(attempts) < 2:
            raise ValueError

    gate = Says()
    rig = Rig(handler=handler, gate=gate)
    rig.carry(None)
    assert gate.told == [Outcome.FAILED, Outcome.FAILED, Outcome.HANDLED]
    assert rig.heard.total("outcomes") == {"handled": 1}
    assert rig.exits.copies == []


def test_a_cancelled_handler_is_told_to_the_gate_as_neither_success_nor_failure() -> None:
    def handler(_: object) -> None:
        raise asyncio.CancelledError

    gate = Says()
    Rig(handler=handler, gate=gate, topic=replace(FAST, retries=0)).carry(None)
    assert gate.told == [Outcome.CANCELLED]


def test_each_retry_passes_the_gate_and_may_be_refused_there() -> None:
    def handler(_: object) -> None:
        raise ValueError

    gate = Says(Ticket(), Ticket(verdict=Verdict.PARK, by="breaker"))
    rig = Rig(lane=Lane.SHADOW, handler=handler, gate=gate)
    rig.carry(MARKED)
    assert rig.exits.copies == [("park", 0, "")]
    assert rig.heard.total("outcomes") == {"parked": 1}


@pytest.mark.parametrize(
    ("verdict", "outcome", "copies"),
    [(Verdict.PARK, "parked", [("park", 0, "")]), (Verdict.SHED, "shed", [])],
)
def test_a_refused_message_ends_in_the_verdicts_outcome_and_is_not_handled(
    verdict: Verdict, outcome: str, copies: list[tuple[str, int, str]]
) -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, gate=Says(Ticket(verdict=verdict, by="rate")))
    piece = rig.carry(MARKED)
    assert piece.lowest() is None
    assert rig.exits.copies == copies
    assert rig.heard.total("outcomes") == {outcome: 1}


def test_a_message_told_to_wait_is_asked_for_again_and_handled() -> None:
    wait = Ticket(verdict=Verdict.WAIT, wait_s=0.001, by="rate")
    rig = Rig(lane=Lane.SHADOW, gate=Says(wait, wait))
    rig.carry(MARKED)
    assert rig.heard.total("outcomes") == {"handled": 1}
    assert rig.heard.total("verdicts") == {"wait": 2, "admit": 1}


def test_a_message_admitted_above_the_soft_limit_is_counted_so() -> None:
    rig = Rig(lane=Lane.SHADOW, gate=Says(Ticket(soft=True)))
    rig.carry(MARKED)
    assert rig.heard.total("verdicts") == {"admit_soft": 1}


def test_a_message_that_a_stage_in_dry_run_would_have_refused_is_counted_so_and_handled() -> None:
    rig = Rig(lane=Lane.SHADOW, gate=Says(Ticket(dry="rate")))
    rig.carry(MARKED)
    assert rig.heard.total("outcomes") == {"handled": 1}
    assert rig.heard.total("verdicts") == {"admit": 1, "dry_rate": 1}


def test_a_waiting_message_is_not_settled_when_the_work_is_called_off() -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, gate=Says(*[Ticket(verdict=Verdict.WAIT, wait_s=60.0)] * 9))

    def call_off(piece: Piece) -> None:
        def cancel() -> None:
            while not piece.running:
                time.sleep(0)
            piece.cancelled = True

        threading.Thread(target=cancel).start()

    piece = rig.carry(MARKED, MARKED, before=call_off)
    assert piece.lowest() == 0
    assert rig.heard.total("outcomes") == {}


def test_a_cancelled_piece_starts_nothing() -> None:
    rig = Rig(handler=pytest.fail)
    piece = rig.carry(None, before=lambda piece: setattr(piece, "cancelled", True))
    assert piece.lowest() == 0


def test_a_copy_that_could_not_be_queued_before_the_stop_leaves_its_message_unsettled() -> None:
    rig = Rig(lane=Lane.SHADOW)
    rig.exits.full = True
    piece = rig.carry([("x-shadow", b"")], MARKED)
    assert piece.lowest() == 0


def test_a_stale_run_is_stepped_over_and_counted() -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail)
    rig.carry([("x-shadow", b"1;run=a;exp=1000")])
    assert rig.heard.total("outcomes") == {"expired": 1}
    assert rig.exits.copies == []


def test_an_unreadable_mark_is_quarantined_with_its_reason_and_the_log_goes_on() -> None:
    rig = Rig(lane=Lane.SHADOW)
    rig.carry([("x-shadow", b"")], MARKED, [("x-shadow", b"9"), ("x-shadow", b"1")])
    assert [(kind, offset) for kind, offset, _ in rig.exits.copies] == [("quarantine", 0), ("quarantine", 2)]
    assert rig.heard.total("outcomes") == {"quarantined": 2, "handled": 1}
    assert rig.heard.total("reasons") == {"empty": 1, "conflict": 1}


def test_a_header_that_is_almost_ours_is_counted_and_stays_normal() -> None:
    rig = Rig()
    rig.carry([("X-Shadow", b"1")])
    assert rig.heard.total("reasons") == {"near_miss": 1}
    assert rig.heard.total("outcomes") == {"handled": 1}


def test_on_a_topic_without_a_shadow_cursor_a_marked_message_is_quarantined_never_handled() -> None:
    rig = Rig(lane=Lane.NORMAL, handler=pytest.fail, shared=False)
    rig.carry(MARKED)
    assert rig.exits.copies == [("quarantine", 0, "misrouted")]


def test_an_unmarked_message_on_a_shadow_topic_is_quarantined_never_handled() -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, shared=False)
    rig.carry(None)
    assert rig.exits.copies == [("quarantine", 0, "unmarked")]


READINGS = [
    NORMAL,
    UNREADABLE,
    Reading(Kind.QUARANTINE, None, "too_many_headers"),
    Reading(Kind.QUARANTINE, None, "bad_signature"),
    Reading(Kind.SHADOW, None, ""),
    Reading(Kind.EXPIRED, None, ""),
]


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: f"{reading.kind}-{reading.reason}")
def test_each_reading_has_exactly_one_owner_among_the_two_lanes(reading: Reading) -> None:
    mine = {Lane.NORMAL: Kind.NORMAL, Lane.SHADOW: Kind.SHADOW}
    owners = [
        lane for lane in Lane if reading.kind is mine[lane] or fate(lane, shared=True, reading=reading) is not None
    ]
    assert len(owners) == 1


def test_what_a_handler_produces_holds_back_the_message_that_caused_it() -> None:
    held: list[Any] = []

    def handler(_: object) -> None:
        piece = source.get()
        assert piece is not None
        held.append(piece.hold_current())

    piece = Rig(handler=handler).carry(None, None)
    assert piece.messages == ()
    assert [raw.offset() for _, raw in held] == [0, 1]
    assert piece.lowest() == 0


def test_a_run_that_ends_while_its_message_waits_is_stepped_over_and_counted() -> None:
    ends_at = int(time.time()) - 29

    class Ended(Says):
        """A gate that lets its message wait until the run is over, the half minute for clocks that differ too."""

        def enter(self, now: float, work: object = None) -> Ticket:
            over = time.time() > ends_at + 30
            return Ticket() if over else Ticket(verdict=Verdict.WAIT, wait_s=0.05, by="rate")

    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, gate=Ended())
    piece = rig.carry([("x-shadow", b"1;run=a;exp=%d" % ends_at)])
    assert rig.heard.total("outcomes") == {"expired": 1}
    assert rig.heard.total("verdicts")["wait"] >= 1
    assert piece.lowest() is None


def test_a_mark_is_read_when_its_turn_has_come_and_not_with_the_batch() -> None:
    ends_at = int(time.time()) - 29
    handled: list[int | None] = []

    def handler(message: RawMessage) -> None:
        handled.append(message.offset())
        while time.time() <= ends_at + 30:
            time.sleep(0.01)

    rig = Rig(lane=Lane.SHADOW, handler=handler)
    rig.carry(*[[("x-shadow", b"1;run=a;exp=%d" % ends_at)]] * 3)
    assert handled == [0]
    assert rig.heard.total("outcomes") == {"handled": 1, "expired": 2}


def test_a_run_that_ends_while_another_batch_of_its_share_is_carried_is_stepped_over_and_counted() -> None:
    ends_at = int(time.time()) - 29
    handled: list[int | None] = []

    def handler(batch: Batch) -> None:
        handled.extend(each.offset() for each in batch)
        while time.time() <= ends_at + 30:
            time.sleep(0.01)

    rig = Rig(lane=Lane.SHADOW, handler=handler, batch=3)
    ending: Any = [("x-shadow", b"1;run=a;exp=%d" % ends_at)]
    piece = rig.carry(MARKED, ending, ending)
    assert handled == [0]
    assert rig.heard.total("outcomes") == {"handled": 1, "expired": 2}
    assert piece.lowest() is None


def test_a_message_with_outputs_is_counted_once_they_are_delivered_and_as_failed_when_one_is_lost() -> None:
    tokens: list[Any] = []

    def handler(message: RawMessage) -> None:
        piece = source.get()
        assert piece is not None
        if message.offset() != 1:
            tokens.extend((piece.hold_current(), piece.hold_current()))

    rig = Rig(handler=handler)
    piece = rig.carry(None, None, None)
    assert rig.heard.total("outcomes") == {"handled": 1}, "the one without outputs"
    assert piece.answers() == {}

    (first, _), (second, _), (third, lost), (fourth, _) = tokens
    piece.release(first)
    assert piece.answers() == {}, "one of its outputs is still on its way"
    piece.release(second)
    assert piece.answers() == {Outcome.HANDLED: 1}
    assert piece.on_lost_output is not None
    piece.on_lost_output(lost, "message timed out")
    piece.on_lost_output(lost, "message timed out")
    piece.release(third)
    piece.release(fourth)
    assert piece.answers() == {Outcome.FAILED: 1}
    assert piece.answers() == {}
    assert rig.exits.copies == [("dlq", 2, "RuntimeError")]


def test_a_message_that_fails_after_it_produced_is_counted_and_dead_lettered_once() -> None:
    tokens: list[Any] = []

    def handler(_: RawMessage) -> None:
        piece = source.get()
        assert piece is not None
        tokens.append(piece.hold_current())
        raise ValueError

    rig = Rig(handler=handler)
    piece = rig.carry(None)
    assert rig.heard.total("outcomes") == {"failed": 1}
    assert piece.on_lost_output is not None
    piece.on_lost_output(tokens[0][1], "message timed out")
    for token, _ in tokens:
        piece.release(token)
    assert piece.answers() == {}
    assert rig.exits.copies == [("dlq", 0, "ValueError")]


def test_a_lost_output_dead_letters_the_message_that_caused_it() -> None:
    rig = Rig()
    piece = rig.carry(None)
    assert piece.on_lost_output is not None
    piece.on_lost_output(RawMessage(topic="t", partition=3, offset=0), "message timed out")
    assert rig.exits.copies == [("dlq", 0, "RuntimeError")]


def test_a_sync_handler_that_returns_an_awaitable_has_failed() -> None:
    async def later() -> None: ...

    rig = Rig(handler=lambda _: later())
    rig.carry(None)
    assert rig.exits.copies == [("dlq", 0, "TypeError")]


def test_an_async_handler_that_takes_too_long_is_cancelled_and_has_failed() -> None:
    ended: list[str] = []

    async def handler(_: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    rig = Rig(handler=handler, timeout_s=0.01, topic=replace(FAST, retries=1))
    rig.carry(None)
    assert ended == ["cancelled"] * 2
    assert rig.exits.copies == [("dlq", 0, "TimeoutError")]
    assert rig.heard.total("outcomes") == {"failed": 1}


def test_retries_of_messages_that_failed_together_do_not_come_together() -> None:
    binding = Binding(Lane.NORMAL, TopicSettings("t", "t", retries=8, backoff_s=1.0), "c", id, OpenGate, shared=True)
    longest = [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    delays = [list(binding.delays_s()) for _ in range(20)]
    for each in delays:
        assert all(most / 2 <= delay <= most for delay, most in zip(each, longest, strict=True))
    assert len({tuple(each) for each in delays}) == 20


def test_a_batch_handler_is_given_what_is_ours_and_of_one_run_together() -> None:
    seen: list[tuple[list[int | None], str | None]] = []

    def handler(batch: Batch) -> None:
        mark = current()
        seen.append(([each.offset() for each in batch], mark and mark.run))

    other = [("x-shadow", b"1;run=other")]
    rig = Rig(lane=Lane.SHADOW, handler=handler, batch=4)
    piece = rig.carry(MARKED, None, other, MARKED, [("x-shadow", b"")], MARKED)
    assert seen == [([0, 3], "fcst-1111"), ([2], "other"), ([5], "fcst-1111")]
    assert piece.lowest() is None
    assert rig.heard.total("outcomes") == {"handled": 4, "quarantined": 1}
    assert sum(event.stepped_over for event in rig.heard.events if isinstance(event, Carried)) == 1


def test_an_async_batch_handler_is_given_batches_too() -> None:
    seen: list[int] = []

    async def handler(batch: Batch) -> None:
        await asyncio.sleep(0)
        seen.append(len(batch))

    rig = Rig(handler=handler, batch=2)
    rig.carry(None, None, None)
    assert seen == [2, 1]
    assert rig.heard.total("outcomes") == {"handled": 3}


def test_a_batch_that_fails_is_tried_message_by_message() -> None:
    seen: list[list[int | None]] = []

    def handler(batch: Batch) -> None:
        seen.append([each.offset() for each in batch])
        if any(each.offset() == 1 for each in batch):
            raise ValueError

    rig = Rig(handler=handler, batch=3, topic=replace(FAST, retries=1))
    piece = rig.carry(None, None, None, None)
    assert seen == [[0, 1, 2], [0, 1, 2], [0], [1], [2], [3]]
    assert rig.exits.copies == [("dlq", 1, "ValueError")]
    assert rig.heard.total("outcomes") == {"handled": 3, "failed": 1}
    assert piece.lowest() is None


def test_a_batch_that_failed_is_given_once_more_whole_whatever_its_handler_did_to_it() -> None:
    seen: list[int] = []

    def handler(batch: Any) -> None:
        seen.append(len(batch))
        with suppress(AttributeError):
            batch.clear()
        if len(seen) == 1:
            raise ValueError

    Rig(handler=handler, batch=3, topic=replace(FAST, retries=1)).carry(None, None, None)
    assert seen == [3, 3]


@pytest.mark.parametrize("fails", [False, True])
def test_of_batches_that_are_called_off_the_finished_ones_are_not_read_again(*, fails: bool) -> None:
    seen: list[list[int | None]] = []

    def handler(batch: Batch) -> None:
        seen.append([each.offset() for each in batch])
        if len(seen) == 1:
            piece = source.get()
            assert piece is not None
            piece.cancelled = True
            if fails:
                raise ValueError

    other: Any = [("x-shadow", b"1;run=other")]
    rig = Rig(lane=Lane.SHADOW, handler=handler, batch=5)
    piece = rig.carry(other, MARKED, [("x-shadow", b"")], other, None, MARKED)
    assert seen == [[0, 3]]
    assert piece.lowest() == (0 if fails else 1)
    left = [0, 1, 3] if fails else [1]
    assert sorted(piece.unfinished()) == [(each, each + 1) for each in [*left, 5]]
    assert rig.heard.total("outcomes") == ({"quarantined": 1} if fails else {"quarantined": 1, "handled": 2})


@pytest.mark.parametrize("lane", Lane)
def test_work_that_is_called_off_ends_at_the_next_message_of_its_own(lane: Lane) -> None:
    ours, theirs = (None, MARKED) if lane is Lane.NORMAL else (MARKED, None)
    seen: list[int | None] = []

    def handler(message: RawMessage) -> None:
        seen.append(message.offset())
        piece = source.get()
        assert piece is not None
        piece.cancelled = True

    piece = Rig(lane=lane, handler=handler).carry(theirs, ours, theirs, theirs, ours, theirs)
    assert seen == [1]
    assert piece.lowest() == 4
    assert Rig(lane=lane, handler=handler).carry(ours, theirs).lowest() is None


def test_what_is_not_to_be_trusted_is_left_where_it_is_when_work_is_called_off() -> None:
    def handler(_: RawMessage) -> None:
        piece = source.get()
        assert piece is not None
        piece.cancelled = True

    rig = Rig(lane=Lane.SHADOW, handler=handler)
    assert rig.carry(MARKED, None, [("x-shadow", b"")]).lowest() == 2
    assert rig.exits.copies == []


def test_a_batch_is_counted_once_however_often_its_piece_is_announced_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shadowstream.kafka.engine.tally.ANNOUNCE_S", 0.0)

    def handler(batch: Batch) -> None:
        if any(each.offset() in {0, 2} for each in batch):
            raise ValueError

    rig = Rig(handler=handler, batch=3, topic=replace(FAST, retries=1))
    rig.carry(None, None, None, None)
    assert len(rig.heard.events) > 1
    assert rig.heard.total("outcomes") == {"handled": 2, "failed": 2}


def test_a_refused_batch_is_parked_whole() -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, batch=5, gate=Says(Ticket(verdict=Verdict.PARK)))
    rig.carry(MARKED, MARKED)
    assert rig.exits.copies == [("park", 0, ""), ("park", 1, "")]
    assert rig.heard.total("outcomes") == {"parked": 2}


def test_outputs_of_a_batch_count_all_its_messages() -> None:
    tokens = []

    def handler(batch: Batch) -> None:
        piece = source.get()
        assert piece is not None
        tokens.append(piece.hold_current())

    rig = Rig(handler=handler, batch=5)
    piece = rig.carry(None, None, None)
    assert rig.heard.total("outcomes") == {}
    assert piece.lowest() == 0
    piece.release(tokens[0][0])
    assert piece.answers() == {Outcome.HANDLED: 3}


def test_a_message_that_is_settled_by_hand_is_done_when_that_is_said() -> None:
    kept: list[Message] = []
    rig = Rig(handler=kept.append, by_hand=True)
    piece = rig.carry(None, None)
    assert piece.lowest() == 0
    assert rig.engine.unsettled() == 2
    kept[1].ack()
    assert piece.lowest() == 0
    kept[0].ack()
    assert piece.lowest() is None
    assert rig.engine.unsettled() == 0
    assert rig.heard.total("outcomes") == {}
    assert piece.answers() == {Outcome.HANDLED: 2}


def test_only_the_first_word_about_a_message_counts() -> None:
    kept: list[Message] = []
    rig = Rig(lane=Lane.SHADOW, handler=kept.append, by_hand=True)
    piece = rig.carry(MARKED, MARKED)
    kept[0].park()
    kept[0].ack()
    kept[0].nack()
    kept[1].ack()
    kept[1].park()
    assert rig.exits.copies == [("park", 0, "")]
    assert list(rig.engine.desk.due()) == []
    assert piece.answers() == {Outcome.PARKED: 1, Outcome.HANDLED: 1}


def test_a_handler_may_settle_before_it_returns_and_what_it_raises_then_changes_nothing() -> None:
    def handler(message: Message) -> None:
        message.ack()
        raise ValueError

    rig = Rig(handler=handler, by_hand=True)
    piece = rig.carry(None)
    assert rig.exits.copies == []
    assert piece.answers() == {Outcome.HANDLED: 1}


def test_a_handler_that_settles_by_hand_and_fails_is_dead_lettered_and_let_go() -> None:
    def handler(_: Message) -> None:
        raise ValueError

    rig = Rig(handler=handler, by_hand=True)
    piece = rig.carry(None)
    assert rig.exits.copies == [("dlq", 0, "ValueError")]
    assert rig.heard.total("outcomes") == {"failed": 1}
    assert piece.lowest() is None
    assert rig.engine.unsettled() == 0


def test_a_message_that_was_refused_or_is_stale_is_not_left_to_be_settled_by_hand() -> None:
    rig = Rig(lane=Lane.SHADOW, handler=pytest.fail, by_hand=True, gate=Says(Ticket(verdict=Verdict.SHED)))
    piece = rig.carry(MARKED, [("x-shadow", b"1;run=a;exp=1")])
    assert rig.heard.total("outcomes") == {"shed": 1, "expired": 1}
    assert piece.lowest() is None
    assert rig.engine.unsettled() == 0


def test_a_message_that_is_asked_for_again_stays_uncommitted() -> None:
    kept: list[Message] = []
    rig = Rig(handler=kept.append, by_hand=True)
    piece = rig.carry(None)
    kept[0].nack(0.0)
    assert piece.lowest() == 0
    (again,) = rig.engine.desk.due()
    assert again is kept[0]
    assert piece.lowest() == 0, "until whoever hands it over again has opened its new piece"
    again.let_go()
    assert piece.lowest() is None
    assert piece.answers() == {}


def test_a_message_is_asked_for_again_when_its_time_has_come() -> None:
    kept: list[Message] = []
    rig = Rig(handler=kept.append, by_hand=True)
    rig.carry(None)
    kept[0].nack(60.0)
    assert list(rig.engine.desk.due()) == []
    assert rig.engine.unsettled() == 1


def test_a_normal_message_cannot_be_parked() -> None:
    kept: list[Message] = []
    Rig(handler=kept.append, by_hand=True).carry(None)
    with pytest.raises(SetupError, match="nack"):
        kept[0].park()


@pytest.mark.parametrize("call", ["ack", "nack", "park"])
def test_a_message_that_is_settled_when_its_handler_returns_says_so(call: str) -> None:
    rig = Rig(handler=lambda message: getattr(message, call)(), topic=replace(FAST, retries=0))
    rig.carry(None)
    assert rig.exits.copies == [("dlq", 0, "SetupError")]
