"""Retry topics: what failed to the end rests and comes again; on a broker in memory, whose time the test moves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage
from hypothesis import given
from hypothesis import strategies as st

import shadowstream as ss
from shadowstream.kafka.labels import LABELS
from shadowstream.kafka.letters.story import Story, story_of
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.outlets import headers_of
from shadowstream.kafka.resting import Returned, due_after, rest_s
from shadowstream.lane import Lane, is_shadow
from tests.unit.kafka.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shadowstream.kafka.message import Batch, Message
    from shadowstream.testing import Clock as VirtualClock

MARK = b"1;run=fcst-1111"
MARKED: list[tuple[str, bytes | None]] = [("x-shadow", MARK)]
PLACES = {Lane.NORMAL: "t.retry", Lane.SHADOW: "t.shadow.retry"}
DEAD = {Lane.NORMAL: "t.dlq", Lane.SHADOW: "t.shadow.dlq"}
OWN = {Lane.NORMAL: [("trace", b"1"), ("trace", None)], Lane.SHADOW: [("trace", b"1"), *MARKED, ("trace", None)]}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def fails(times: int, seen: list[Any] | None = None, clock: VirtualClock | None = None) -> Callable[[Message], None]:
    """Return a handler that fails so many times for each value, and notes when it was called with what."""
    left: Counter[bytes | None] = Counter()

    def handler(message: Message) -> None:
        if seen is not None:
            seen.append((message.value(), clock.monotonic() if clock else message.round))
        left[message.value()] += 1
        if left[message.value()] <= times:
            raise LookupError("no such voucher")

    return handler


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize(("chance", "rest"), [(0.0, 30.0), (0.999, 36.0)])
def test_what_failed_to_the_end_rests_until_it_is_due_and_is_handled_then(
    stage: Stage, lane: Lane, chance: float, rest: float
) -> None:
    stage.configure({"rounds": 2})
    stage.chances.append(chance)
    seen: list[tuple[bytes, float]] = []
    stage.start(lane, fails(1, seen, stage.time))
    stage.broker.append("t", b"v", b"k", headers=OWN[lane])
    stage.run(rest - 0.5)
    assert [value for value, _ in seen] == [b"v"]
    stage.run(1.5)
    assert [value for value, _ in seen] == [b"v", b"v"]
    assert rest - 0.1 <= seen[1][1] - seen[0][1] <= rest + 0.3, "it comes when it is due, and not before"
    assert stage.outcomes("t", lane) == {"retried": 1}
    assert stage.outcomes(PLACES[lane], lane) == {"handled": 1}
    assert stage.stands(lane) == {"t": 1, PLACES[lane]: 1}
    assert stage.messages(DEAD[lane]) == []


@pytest.mark.parametrize("lane", list(Lane))
def test_a_message_at_rest_is_byte_for_byte_what_it_was_and_tells_its_story(stage: Stage, lane: Lane) -> None:
    stage.configure({"rounds": 2, "retries": 1, "backoff": "1s"})
    stage.start(lane, fails(9))
    stage.broker.append("t", b"earlier")
    stage.broker.append("t", b"\xffv", b"\xffk", headers=OWN[lane])
    written_at = stage.time.time()
    stage.run(5.0)
    message = stage.messages(PLACES[lane])[-1]
    headers = headers_of(message) or []
    assert (message.key(), message.value(), message.timestamp()[1]) == (b"\xffk", b"\xffv", int(written_at * 1000))
    assert headers[: len(OWN[lane])] == OWN[lane], "the mark among them, where it was"
    story = story_of(headers)
    assert (story.topic, story.partition, story.offset, story.timestamp_ms) == ("t", 0, 1, int(written_at * 1000))
    assert (story.attempts, story.rounds, story.lane, story.command) == (2, 1, lane, "c")
    assert (story.exception, story.message) == ("builtins.LookupError", "no such voucher")
    assert 500 <= (story.failed_at_ms or 0) - (story.first_failed_ms or 0) <= 1200
    assert (story.due_ms or 0) - (story.failed_at_ms or 0) == 30_000
    assert (story.client or "").startswith(f"s.{lane}@")


@pytest.mark.parametrize("lane", list(Lane))
def test_after_its_last_round_a_message_is_dead_lettered_with_the_whole_story(stage: Stage, lane: Lane) -> None:
    stage.configure({"rounds": 2, "retries": 1, "backoff": "1ms"})
    seen: list[tuple[bytes, int]] = []
    stage.start(lane, fails(99, seen))
    stage.broker.append("t", b"v", b"k", headers=OWN[lane])
    stage.run(200.0)
    assert [number for _, number in seen] == [0, 0, 1, 1, 2, 2]
    assert stage.outcomes("t", lane) == {"retried": 1}
    assert stage.outcomes(PLACES[lane], lane) == {"retried": 1, "failed": 1}
    (dead,) = stage.messages(DEAD[lane])
    headers = headers_of(dead) or []
    names = [name for name, _ in headers[len(OWN[lane]) :]]
    assert headers[: len(OWN[lane])] == OWN[lane]
    assert sorted(names) == sorted(set(names)), "no label is there twice"
    story = story_of(headers)
    assert (story.topic, story.partition, story.offset) == ("t", 0, 0)
    assert (story.attempts, story.rounds, story.due_ms) == (6, 2, None)
    assert 59_000 <= (story.failed_at_ms or 0) - (story.first_failed_ms or 0) <= 62_000
    assert (dead.key(), dead.value()) == (b"k", b"v")


def test_produced_is_the_sum_of_all_outcomes_when_what_rests_is_counted_where_it_ends(stage: Stage) -> None:
    stage.configure({"rounds": 3, "order": "none"})
    for lane in Lane:
        stage.start(lane, fails_by_value)
    for number in range(40):
        stage.broker.append("t", b"%d" % number, headers=MARKED if number % 2 else None)
    stage.run(300.0)
    for lane in Lane:
        first, again = stage.outcomes("t", lane), stage.outcomes(PLACES[lane], lane)
        assert sum(first.values()) == 20, "what was read of the topic"
        assert sum(again.values()) == stage.broker.log(PLACES[lane]).end == first["retried"] + again["retried"]
        ended = Counter(first) + Counter(again)
        del ended["retried"]
        assert sum(ended.values()) == 20, "each message in one outcome"
        assert ended["failed"] == stage.broker.log(DEAD[lane]).end == 4


def fails_by_value(message: Message) -> None:
    """Fail for as many rounds as the tens of the value say; from 30 on for good."""
    if message.round < int(message.value() or b"") // 10 or int(message.value() or b"") >= 32:
        raise ValueError


def test_nothing_waits_for_a_message_at_rest(stage: Stage) -> None:
    stage.configure({"rounds": 2, "rest": "1h"})
    seen: list[tuple[bytes, float]] = []
    bad = {b"a0", b"b0"}

    def handler(message: Message) -> None:
        seen.append((message.value() or b"", stage.time.monotonic()))
        if message.value() in bad:
            raise ValueError

    stage.start(Lane.NORMAL, handler)
    for value in (b"a0", b"b0", b"a1", b"b1", b"c1"):
        stage.broker.append("t", value, value[:1])
    stage.run(10.0)
    assert [value for value, _ in seen] == [b"a0", b"a1", b"b0", b"b1", b"c1"], "later ones of its key overtake it"
    assert stage.stands(Lane.NORMAL)["t"] == 5
    bad.clear()
    stage.run(1.0)
    stage.broker.append("t", b"late", b"a")
    stage.run(1.0)
    assert seen[-1][0] == b"late"
    stage.run(3600.0)
    assert [value for value, _ in seen[6:]] == [b"a0", b"b0"]


def test_more_than_can_be_held_rests_on_the_broker_while_the_topic_goes_on(stage: Stage) -> None:
    stage.configure({"rounds": 1, "rest": "60s", "max_messages": 200, "order": "none"}, worker={"batch": 100})
    seen: list[tuple[bytes, float]] = []
    stage.start(Lane.NORMAL, fails(1, seen, stage.time))
    for number in range(900):
        stage.broker.append("t", b"%d" % number)
    stage.run(20.0)
    assert 200 <= len(stage.crews[Lane.NORMAL, "t.retry"].rests) < 300
    stage.broker.append("t", b"late")
    stage.run(5.0)
    assert seen[-1][0] == b"late", "the topic is read on while its retry topic is full"
    assert stage.waits == 0, "nobody stands still for room that does not come before somebody is due"
    stage.run(200.0)
    assert stage.outcomes("t.retry") == {"handled": 901}
    assert Counter(value for value, _ in seen) == dict.fromkeys([b"late", *(b"%d" % n for n in range(900))], 2)


def test_of_a_retry_topic_a_thousand_messages_are_held_at_most(stage: Stage) -> None:
    stage.configure({"rounds": 1})
    stage.start(Lane.NORMAL, fails(1))
    bounds = {source: crew.engine.binding.topic.max_messages for (_, source), crew in stage.crews.items()}
    assert bounds == {"t": 10_000, "t.retry": 1000}


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_while_a_message_rests_changes_no_rest(stage: Stage, jump_s: float) -> None:
    stage.configure({"rounds": 2, "rest": "60s"})
    seen: list[tuple[bytes, float]] = []
    stage.start(Lane.NORMAL, fails(2, seen, stage.time))
    stage.broker.append("t", b"v")
    stage.run(30.0)
    stage.time.jump(jump_s)
    stage.run(120.0)
    first, second, third = (at for _, at in seen)
    assert 59.9 <= second - first <= 60.3
    assert 59.9 <= third - second <= 60.3


def test_later_messages_of_a_retry_topic_wait_at_most_for_the_jitter(stage: Stage) -> None:
    stage.configure({"rounds": 1, "order": "partition", "concurrency": 1})
    stage.chances.extend([0.999, 0.0, 0.5])
    seen: list[tuple[bytes, float]] = []
    stage.start(Lane.NORMAL, fails(1, seen, stage.time))
    for number in range(3):
        stage.broker.append("t", b"%d" % number)
    stage.run(40.0)
    assert [value for value, _ in seen] == [b"0", b"1", b"2"] * 2
    assert all(35.9 <= at - seen[0][1] <= 36.3 for _, at in seen[3:]), "all are due by the time of the longest"


def test_a_shadow_message_that_takes_its_own_topic_rests_where_any_shadow_message_does(stage: Stage) -> None:
    stage.configure({"rounds": 1, "route": "topic"})
    seen: list[tuple[str | None, bool]] = []

    def handler(message: Message) -> None:
        seen.append((message.topic(), is_shadow()))
        if message.round == 0:
            raise ValueError

    for lane in Lane:
        stage.start(lane, handler)
    stage.broker.append("shadow.t", b"s", headers=MARKED)
    stage.run(40.0)
    assert seen == [("shadow.t", True)] * 2
    assert [stage.broker.log(PLACES[lane]).end for lane in Lane] == [0, 1]
    assert stage.outcomes(PLACES[Lane.SHADOW], Lane.SHADOW) == {"handled": 1}


@pytest.mark.parametrize(
    ("lane", "headers", "outcome", "reason"),
    [
        (Lane.NORMAL, MARKED, "quarantined", b"misrouted"),
        (Lane.NORMAL, [("x-shadow", b"")], "quarantined", b"empty"),
        (Lane.NORMAL, [("x-shadow", b"1;run=a;exp=1")], "quarantined", b"misrouted"),
        (Lane.SHADOW, [], "quarantined", b"unmarked"),
        (Lane.SHADOW, [("x-shadow", b"1"), ("x-shadow", b"true")], "quarantined", b"conflict"),
        (Lane.SHADOW, [("x-shadow", b"1;run=a;exp=1")], "expired", None),
    ],
)
def test_a_message_in_the_other_lanes_retry_topic_is_quarantined(
    stage: Stage, lane: Lane, headers: list[tuple[str, bytes | None]], outcome: str, reason: bytes | None
) -> None:
    stage.configure({"rounds": 1})
    stage.start(lane, lambda message: pytest.fail(f"handled {message}"))
    origin = [("kafka_dlt-original-topic", b"t"), ("kafka_dlt-original-partition", b"\0\0\0\7")]
    stage.broker.append(PLACES[lane], b"v", headers=[*headers, *origin, ("shadowstream-attempts", b"3")])
    stage.run(1.0)
    assert stage.outcomes(PLACES[lane], lane) == {outcome: 1}
    assert stage.stands(lane)[PLACES[lane]] == 1
    copies = [dict(headers_of(copy) or []) for copy in stage.messages("t.quarantine")]
    assert [copy["shadowstream-reason"] for copy in copies] == ([reason] if reason else [])
    assert all(copy["kafka_dlt-original-partition"] == b"\0\0\0\7" for copy in copies), "where it was first read"


def test_a_run_that_ends_while_its_message_rests_is_stepped_over_and_counted(stage: Stage) -> None:
    stage.configure({"rounds": 1, "rest": "10m"})
    seen: list[tuple[bytes, int]] = []
    stage.start(Lane.SHADOW, fails(9, seen))
    expires_at = int(stage.time.time()) + 60
    stage.broker.append("t", b"v", headers=[("x-shadow", b"1;run=r;exp=%d" % expires_at)])
    stage.run(700.0)
    assert seen == [(b"v", 0)]
    assert stage.outcomes(PLACES[Lane.SHADOW], Lane.SHADOW) == {"expired": 1}


@pytest.mark.parametrize("lane", list(Lane))
def test_a_message_with_as_many_headers_as_may_be_comes_again(stage: Stage, lane: Lane) -> None:
    stage.configure({"rounds": 3})
    own = [*OWN[lane], *((f"h{number}", b"1") for number in range(128 - len(OWN[lane])))]
    seen: list[tuple[bytes, int]] = []
    stage.start(lane, fails(3, seen))
    stage.broker.append("t", b"v", headers=own)
    stage.run(130.0)
    assert seen == [(b"v", number) for number in range(4)]
    assert stage.outcomes(PLACES[lane], lane) == {"retried": 2, "handled": 1}
    assert all((headers_of(each) or [])[:128] == own for each in stage.messages(PLACES[lane]))


def test_labels_do_not_pile_up_however_often_a_message_comes_again(stage: Stage) -> None:
    stage.configure({"rounds": 40, "rest": "1s"})
    stage.start(Lane.NORMAL, fails(99))
    old = [("shadowstream-reason", b"refused"), ("shadowstream-attempts", b"77"), ("shadowstream-replayed", b"2")]
    stage.broker.append("t", b"v", headers=[*old, ("own", b"1")])
    stage.run(90.0)
    sizes = {len(headers_of(each) or []) for each in stage.messages("t.retry")}
    assert len(sizes) == 1
    (dead,) = stage.messages("t.dlq")
    story = story_of(headers_of(dead) or [])
    assert (story.rounds, story.attempts, story.replayed, story.reason) == (40, 41, 2, None)


@pytest.mark.parametrize("alone", [False, True])
def test_a_message_too_large_to_rest_is_dead_lettered_and_counted(tmp_path: Path, alone: bool) -> None:
    stage = Stage(tmp_path, max_message_bytes=5000)
    stage.configure({"rounds": 1})
    seen: list[tuple[bytes, int]] = []
    stage.start(Lane.NORMAL, fails(9, seen))
    stage.broker.append("t", b"v" * 4900, headers=[("own", b"1")])
    if not alone:
        stage.broker.append("t", b"small", b"other")
    stage.run(60.0)
    large = next(each for each in stage.messages("t.dlq") if each.value() is None)
    story = story_of(headers_of(large) or [])
    assert (story.offset, story.left_out, story.due_ms) == (0, True, None)
    rounds = dict(seen)
    assert rounds == ({b"v" * 4900: 0} if alone else {b"v" * 4900: 0, b"small": 1})
    first, again = stage.outcomes("t"), stage.outcomes("t.retry")
    assert first["retried"] == sum(again.values()) == (1 if alone else 2)
    assert again == {"failed": first["retried"]}
    assert stage.stands(Lane.NORMAL)["t"] == first["retried"]


def test_a_handler_sees_the_message_that_was_first_read(stage: Stage) -> None:
    stage.configure({"rounds": 1})
    seen: list[tuple[Any, ...]] = []

    def handler(message: Message) -> None:
        told = (message.topic(), message.partition(), message.offset(), message.timestamp(), message.headers())
        seen.append((*told, message.key(), message.value(), message.mark, str(message), message.round))
        if message.round == 0:
            raise ValueError

    stage.start(Lane.SHADOW, handler)
    stage.broker.append("t", b"earlier")
    stage.broker.append("t", b"v", b"k", headers=OWN[Lane.SHADOW])
    stage.run(40.0)
    first, again = seen
    assert first[:-1] == again[:-1]
    assert (first[-1], again[-1]) == (0, 1)
    assert first[:3] == ("t", 0, 1)


def test_a_message_without_a_story_is_handled_at_once_and_is_itself() -> None:
    raw = RawMessage(topic="t.retry", partition=3, offset=7, headers=[("a", b"1")], timestamp=(1, 99))
    message = Returned(raw)
    assert (message.topic(), message.partition(), message.offset(), message.round) == ("t.retry", 3, 7, 0)
    assert (message.timestamp(), message.headers()) == ((1, 99), [("a", b"1")])
    assert rest_s(message.story, 1e9) == 0.0
    assert Returned(RawMessage(topic="t.retry")).headers() is None


def test_without_rounds_nobody_reads_or_writes_a_retry_topic(stage: Stage) -> None:
    stage.configure({"rounds": 0})
    stage.start(Lane.NORMAL, fails(9))
    stage.broker.append("t", b"v")
    stage.run(1.0)
    assert set(stage.crews) == {(Lane.NORMAL, "t")}
    assert stage.outcomes("t") == {"failed": 1}
    labels = {name for name, _ in headers_of(stage.messages("t.dlq")[0]) or []}
    assert labels <= LABELS
    assert not labels & {"shadowstream-round", "shadowstream-due"}


def test_a_worker_asks_for_the_retry_topics_of_the_lanes_that_have_rounds(stage: Stage) -> None:
    stage.configure({"rounds": 1, "shadow": {"rounds": 0}})
    worker = ss.Worker(stage.settings)
    worker.handles("t")(print)
    assert {name for name in worker.topics() if name.endswith(".retry")} == {"t.retry"}


def test_what_the_gate_refuses_in_a_later_round_is_parked_with_the_place_it_was_first_read_at(stage: Stage) -> None:
    rule = {"failure_rate": 1.0, "window": 1, "min_calls": 1, "open_for": "1h"}
    stage.configure({"rounds": 1, "shadow": {"on_limit": "park"}}, resilience={"shadow.c": rule})
    stage.start(Lane.SHADOW, fails(9))
    stage.broker.append("t", b"earlier")
    stage.broker.append("t", b"v", headers=MARKED)
    stage.run(40.0)
    assert stage.outcomes(PLACES[Lane.SHADOW], Lane.SHADOW) == {"parked": 1}
    (parked,) = stage.messages("t.shadow.parked")
    story = story_of(headers_of(parked) or [])
    assert (story.topic, story.offset, story.reason) == ("t", 1, "refused")
    assert (story.attempts, story.rounds, story.due_ms) == (1, 1, None)


def test_a_message_whose_output_was_lost_is_dead_lettered_and_does_not_rest_as_well(stage: Stage) -> None:
    stage.configure({"rounds": 1})

    def handler(message: Message) -> None:
        # A delivery report may come while the handler still runs.
        piece.on_lost_output(message.raw, "lost")  # type: ignore[misc]
        raise ValueError

    stage.start(Lane.NORMAL, handler)
    crew = stage.crews[Lane.NORMAL, "t"]
    piece = Piece([RawMessage(topic="t", partition=0, offset=0, value=b"v", timestamp=(1, 1))])
    crew.put([piece])
    crew.work()
    stage.run(1.0)
    assert stage.outcomes("t") == {"failed": 1}
    assert (len(stage.messages("t.dlq")), len(stage.messages("t.retry"))) == (1, 0)


def test_a_lost_output_in_a_later_round_is_dead_lettered_with_the_whole_story(stage: Stage) -> None:
    stage.configure({"rounds": 1})
    crew: Any = None

    def handler(message: Message) -> None:
        if message.round == 0:
            raise ValueError
        crew.engine._lost_output(crew.piece)(message.raw, "lost")

    stage.start(Lane.NORMAL, handler)
    crew = stage.crews[Lane.NORMAL, "t.retry"]
    crew.piece = Piece([RawMessage(topic="t.retry", partition=0, offset=0)])
    stage.broker.append("t", b"v")
    stage.run(40.0)
    (dead,) = stage.messages("t.dlq")
    story = story_of(headers_of(dead) or [])
    assert (story.topic, story.attempts, story.rounds, story.message) == ("t", 2, 1, "lost")


def test_a_batch_handler_is_given_each_message_of_a_later_round_alone(stage: Stage) -> None:
    stage.configure({"rounds": 1, "order": "partition", "concurrency": 1})
    seen: list[list[tuple[bytes | None, int]]] = []

    def handler(batch: Batch) -> None:
        seen.append([(message.value(), message.round) for message in batch])
        if any(message.round == 0 and message.value() in {b"1", b"3"} for message in batch):
            raise ValueError

    stage.start(Lane.NORMAL, handler, batch=10)
    for number in range(4):
        stage.broker.append("t", b"%d" % number)
    stage.run(40.0)
    assert seen[-2:] == [[(b"1", 1)], [(b"3", 1)]]
    assert stage.outcomes("t") == {"handled": 2, "retried": 2}
    assert stage.outcomes("t.retry") == {"handled": 2}


def test_a_message_that_is_settled_by_hand_comes_again_by_a_failure_and_by_asking(stage: Stage) -> None:
    stage.configure({"rounds": 1})
    seen: list[int] = []

    def handler(message: Message) -> None:
        seen.append(message.round)
        if message.round == 0:
            raise ValueError
        message.nack(5.0) if len(seen) == 2 else message.ack()

    stage.broker.create_topic("t", 2)
    stage.start(Lane.NORMAL, handler, settle="by_hand")
    stage.broker.append("t", b"v", partition=1)
    stage.run(33.0)
    assert (seen, stage.broker.stands("g")["t", 1]) == ([0, 1], 1)
    assert stage.stands(Lane.NORMAL).get("t.retry", 0) == 0, "asked for again: not answered for"
    stage.run(5.0)
    assert (seen, stage.stands(Lane.NORMAL)["t.retry"]) == ([0, 1, 1], 1)
    assert stage.outcomes("t.retry") == {"handled": 1}


def test_a_stop_does_not_wait_for_what_rests_and_the_next_start_goes_on_with_it(stage: Stage) -> None:
    stage.configure({"rounds": 1, "rest": "1h"})
    seen: list[tuple[bytes, int]] = []
    handler = fails(1, seen)
    first = stage.start(Lane.NORMAL, handler)
    for number in range(5):
        stage.broker.append("t", b"%d" % number, b"%d" % number)
    stage.run(10.0)
    before = stage.time.monotonic()
    first.close()
    assert stage.time.monotonic() - before < 1.0
    assert not first.hung
    assert stage.stands(Lane.NORMAL) == {"t": 5, "t.retry": 0}
    stage.cursors.clear()
    stage.crews.clear()
    stage.start(Lane.NORMAL, handler)
    stage.run(3500.0)
    assert len(seen) == 5
    stage.run(200.0)
    assert sorted(seen[5:]) == [(b"%d" % number, 1) for number in range(5)]


@pytest.mark.parametrize("lane", list(Lane))
def test_on_a_transactional_topic_a_message_rests_and_is_answered_for_in_one_transaction(
    stage: Stage, lane: Lane
) -> None:
    stage.configure({"rounds": 1, "transactional": True})
    seen: list[tuple[bytes, int]] = []
    stage.start(lane, fails(1, seen))
    stage.broker.append("t", b"v", b"k", headers=OWN[lane])
    stage.run(5.0)
    (resting,) = stage.broker.log(PLACES[lane]).records
    assert resting.work is not None, "it is part of a transaction"
    assert stage.stands(lane)["t"] == 1
    stage.run(35.0)
    assert seen == [(b"v", 0), (b"v", 1)]
    assert stage.outcomes("t", lane) == {"retried": 1}
    assert stage.outcomes(PLACES[lane], lane) == {"handled": 1}
    assert stage.stands(lane)[PLACES[lane]] == 1


@pytest.mark.parametrize("transactional", [False, True])
def test_a_message_that_lost_its_value_on_the_way_to_its_rest_is_never_handled(
    tmp_path: Path, transactional: bool
) -> None:
    stage = Stage(tmp_path, max_message_bytes=5000)
    stage.configure({"rounds": 1, "transactional": transactional})
    seen: list[tuple[bytes, int]] = []
    stage.start(Lane.SHADOW, fails(9, seen))
    stage.broker.append("t", b"v" * 4900, headers=MARKED)
    stage.broker.append(PLACES[Lane.SHADOW], b"", headers=[("shadowstream-left-out", b"value")])
    stage.run(60.0)
    assert seen == [(b"v" * 4900, 0)]
    assert stage.outcomes(PLACES[Lane.SHADOW], Lane.SHADOW) == {"failed": 1, "quarantined": 1}
    (dead,) = stage.messages(DEAD[Lane.SHADOW])
    story = story_of(headers_of(dead) or [])
    assert (story.topic, story.offset, story.left_out, story.message) == ("t", 0, True, "no such voucher")


TIMES = st.integers(0, 4_102_444_800_000)


@given(TIMES, TIMES, st.floats(0, 4e9))
def test_a_wall_clock_that_was_set_back_makes_no_rest_longer(failed_ms: int, rest_ms: int, now: float) -> None:
    story = Story(failed_at_ms=failed_ms, due_ms=failed_ms + rest_ms)
    rest = rest_s(story, now)
    assert 0.0 <= rest <= min(rest_ms / 1000, 1.25 * 86400)
    assert rest <= max((failed_ms + rest_ms) / 1000 - now, 0.0)


@given(st.floats(0, 4e9), st.floats(0, 86400), st.floats(0, 1, exclude_max=True))
def test_chance_only_ever_makes_a_rest_longer_and_by_a_fifth_at_most(now: float, rest: float, chance: float) -> None:
    assert now + rest <= due_after(now, rest, chance) <= now + rest * 1.2
