"""Messages that failed to the end rest in a retry topic on a real broker, and nothing waits for them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from containers.kafka import KafkaContainer
from shadowstream.cli import main
from shadowstream.kafka.letters.story import story_of
from shadowstream.kafka.outlets import retry_topic
from shadowstream.lane import Lane
from tests.broker.exact import seen as committed
from tests.broker.rig import MARK, MARKED, Rig, eventually, headers_of, text_of
from tests.broker.service import Service
from tests.broker.test_rebalance import PROTOCOLS
from tests.broker.wire import produce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import shadowstream as ss
    from tests.broker.rig import Headers

pytest_plugins = ["tests.broker.rig"]

KEYED = {"order": "key", "concurrency": 4, "retries": 0}
BOTH: tuple[Headers | None, ...] = (None, MARKED)
# A static member is given its partitions back at once, without a wait for its session to end.
AT_ONCE = {"group.instance.id": "retry"}

FAILS_AT_FIRST = """
@worker.handles("{topic}")
def handler(message):
    note(message, "begun")
    if message.round == 0 and message.value().startswith(b"bad"):
        raise LookupError("no such voucher")
    note(message)
"""


def resting(rig: Rig, partitions: int = 1) -> str:
    """Create a topic with its retry topics."""
    topic = rig.topic(partitions=partitions)
    rig.kafka.create_topics({retry_topic(topic, lane): partitions for lane in Lane})
    rig.begin(topic)
    return topic


def quiet(rig: Rig, topic: str) -> bool:
    """Tell whether both lanes have answered for everything, what rested included."""
    return all(rig.caught_up(lane, place) for lane in Lane for place in (topic, retry_topic(topic, lane)))


def handler_of(kind: str, handler: Callable[[ss.Message], None]) -> Callable[[ss.Message], object]:
    """Return a handler as one that is sync or async."""

    async def run(message: ss.Message) -> None:
        await asyncio.sleep(0)
        handler(message)

    return handler if kind == "sync" else run


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_other_keys_of_the_partition_go_on_while_one_rests_until_it_is_due(rig: Rig, kind: str) -> None:
    topic = resting(rig)
    worker = rig.worker(rig.settings({topic: {**KEYED, "rounds": 2, "rest": "2s"}}))
    seen: list[tuple[Lane, str, int, float]] = []

    def handler(message: ss.Message) -> None:
        seen.append((message.lane, text_of(message), message.round, time.time()))
        if text_of(message) == "bad" and message.round == 0:
            raise LookupError

    worker.handles(topic)(handler_of(kind, handler))
    values = [f"n{number}" for number in range(100)]
    with worker:
        for headers in BOTH:
            rig.send(topic, ["bad"], headers, key="a")
        for lane in Lane:
            eventually(lambda lane=lane: rig.ends(retry_topic(topic, lane))[0] == 1, f"one at rest in {lane}")
        for headers in BOTH:
            rig.send(topic, values, headers, key="a")
            rig.send(topic, values, headers, key="b")
        eventually(lambda: len(seen) >= 402, "everything else handled")
        eventually(lambda: quiet(rig, topic), "what rested as well")
    for lane in Lane:
        mine = [(value, number, at) for where, value, number, at in seen if where is lane]
        assert Counter((value, number) for value, number, _ in mine) == {
            **dict.fromkeys([(value, 0) for value in values], 2),
            ("bad", 0): 1,
            ("bad", 1): 1,
        }
        assert mine[-1][:2] == ("bad", 1), "nothing waited for it"
        (message,) = rig.read(retry_topic(topic, lane))
        due = (story_of(headers_of(message)).due_ms or 0) / 1000
        assert mine[0][2] + 2.0 - 0.01 <= due <= mine[-1][2], "it came when it was due, and not before"
        assert rig.heard.outcomes(lane, topic) == {"handled": 200, "retried": 1}
        assert rig.heard.outcomes(lane, retry_topic(topic, lane)) == {"handled": 1}


def test_after_the_last_round_a_dead_letter_tells_the_whole_story_in_its_lane(rig: Rig) -> None:
    topic = resting(rig, partitions=3)
    worker = rig.worker(rig.settings({topic: {**KEYED, "retries": 1, "backoff": "1ms", "rounds": 2, "rest": "300ms"}}))

    @worker.handles(topic, command="claim")
    def handler(message: ss.Message) -> None:
        if message.topic() != topic or message.partition() != 2:
            raise AssertionError(f"{message} is not the one that was produced")
        raise LookupError(f"no such voucher in round {message.round}")

    own: Headers = [("trace", b"1"), ("trace", None)]
    for headers in (own, [*own, *MARKED]):
        given: Any = headers
        rig.producer.produce(topic, "v", b"k\xff", partition=2, timestamp=1_700_000_000_123, headers=given)
    assert rig.producer.flush(30) == 0
    with worker:
        eventually(lambda: quiet(rig, topic), "a quiet point")
        eventually(lambda: all(sum(rig.ends(dead).values()) for dead in dead_letters(topic)), "both dead letters")
    for lane, dead, headers in zip(Lane, dead_letters(topic), (own, [*own, ("x-shadow", MARK)]), strict=True):
        (letter,) = rig.read(dead)
        story = story_of(headers_of(letter))
        assert headers_of(letter)[: len(headers)] == headers
        assert (letter.key(), letter.value(), letter.timestamp()[1]) == (b"k\xff", b"v", 1_700_000_000_123)
        assert (story.topic, story.partition, story.offset) == (topic, 2, 0 if lane is Lane.NORMAL else 1)
        assert (story.attempts, story.rounds, story.due_ms, story.lane, story.command) == (6, 2, None, lane, "claim")
        assert story.message == "no such voucher in round 2"
        assert (story.failed_at_ms or 0) - (story.first_failed_ms or 0) >= 600
        names = [name for name, _ in headers_of(letter)[len(headers) :]]
        assert len(names) == len(set(names))
        assert rig.heard.outcomes(lane, topic) == {"retried": 1}
        assert rig.heard.outcomes(lane, retry_topic(topic, lane)) == {"retried": 1, "failed": 1}


def dead_letters(topic: str) -> list[str]:
    """Return both lanes' dead-letter topics, normal's first."""
    return [f"{topic}.dlq", f"{topic}.shadow.dlq"]


def test_a_dead_letter_of_the_last_round_goes_back_to_where_it_was_first_read_and_begins_anew(rig: Rig) -> None:
    topic = resting(rig, partitions=3)
    settings = rig.settings({topic: {**KEYED, "rounds": 1, "rest": "100ms"}})
    mended = threading.Event()
    seen: list[tuple[Lane, str | None, int | None, int, Headers | None]] = []

    def worker() -> ss.Worker:
        made = rig.worker(settings)

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            seen.append((message.lane, message.topic(), message.partition(), message.round, message.headers()))
            if not mended.is_set():
                raise LookupError

        return made

    for headers in BOTH:
        rig.send(topic, ["v"], headers, partition=1)
    with worker():
        eventually(lambda: all(sum(rig.ends(dead).values()) for dead in dead_letters(topic)), "both dead letters")
        eventually(lambda: quiet(rig, topic), "a quiet point")
    for lane in Lane:
        command = ["dlq", "replay", topic, "--lane", lane.value, "--yes"]
        assert main([*command, "--config", str(rig.folder / "shadowstream.yaml")]) == 0
    mended.set()
    before = len(seen)
    with worker():
        eventually(lambda: len(seen) == before + 2, "both handled")
    replayed: Headers = [("shadowstream-replayed", b"1")]
    raw = {lane: headers_of(rig.read(topic)[2 + number]) for number, lane in enumerate(Lane)}
    assert raw == {Lane.NORMAL: replayed, Lane.SHADOW: [*MARKED, *replayed]}
    assert sorted((lane, place, partition, number) for lane, place, partition, number, _ in seen[before:]) == [
        (lane, topic, 1, 0) for lane in Lane
    ]


def test_the_lanes_rest_apart_and_what_lies_in_the_wrong_place_is_quarantined(rig: Rig) -> None:
    topic = resting(rig)
    worker = rig.worker(rig.settings({topic: {**KEYED, "rounds": 1, "rest": "500ms"}}))
    seen: list[tuple[Lane, str]] = []

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        if message.round == 0:
            raise ValueError
        seen.append((message.lane, text_of(message)))

    for number in range(30):
        rig.send(topic, [f"n{number}"], key=str(number))
        rig.send(topic, [f"s{number}"], MARKED, key=str(number))
    rig.send(f"{topic}.retry", ["shadow in normal's"], MARKED)
    rig.send(f"{topic}.shadow.retry", ["normal in shadow's"])
    produce(rig.bootstrap, f"{topic}.retry", b"broken", [(b"\xff", b"1")])
    with worker:
        eventually(lambda: len(seen) == 60 and quiet(rig, topic), "a quiet point")
    assert Counter(seen) == dict.fromkeys(
        [(lane, f"{lane.value[0]}{number}") for lane in Lane for number in range(30)], 1
    )
    assert all(("x-shadow", MARK) not in headers_of(each) for each in rig.read(f"{topic}.retry")[3:])
    assert all(("x-shadow", MARK) in headers_of(each) for each in rig.read(f"{topic}.shadow.retry")[1:])
    assert sorted(rig.values(f"{topic}.quarantine")) == ["broken", "normal in shadow's", "shadow in normal's"]
    assert rig.heard.outcomes(Lane.NORMAL, f"{topic}.retry") == {"handled": 30, "quarantined": 2}
    assert rig.heard.outcomes(Lane.SHADOW, f"{topic}.shadow.retry") == {"handled": 30, "quarantined": 1}


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("commit_every", ["1h", "100ms"])
def test_a_kill_while_messages_rest_loses_nothing_committed_or_not(rig: Rig, commit_every: str, lane: Lane) -> None:
    topic = resting(rig)
    headers = MARKED if lane is Lane.SHADOW else None
    bad, good = [f"bad{number}" for number in range(20)], [f"good{number}" for number in range(20)]
    sections = {"worker": {"commit_every": commit_every}, "kafka": AT_ONCE}
    app = FAILS_AT_FIRST.format(topic=topic)
    with Service(rig, app, {topic: {**KEYED, "rounds": 1, "rest": "5s"}}, **sections) as service:
        place = retry_topic(topic, lane)
        # The first turn of a cursor commits, whatever the interval; behind it there is none for an hour.
        rig.send(topic, ["first"], headers)
        eventually(lambda: service.done(lane)["first"], "the first turn")
        for value in (*bad, *good):
            rig.send(topic, [value], headers, key=value)
        eventually(lambda: rig.ends(place)[0] >= len(bad), "all that failed at rest")
        if commit_every != "1h":
            eventually(lambda: rig.committed(rig.group_of(lane), topic).get(0) == 41, "the topic answered for")
        service.kill()
        assert not set(service.done(lane)) & set(bad), "none of them was due yet"
        stood = rig.committed(rig.group_of(lane), topic)[0]
        service.start()
        eventually(lambda: set(service.done(lane)) == {"first", *bad, *good}, "everything handled")
        done = service.done(lane)
    if commit_every == "1h":
        assert stood <= 1, "it was killed between the retry topic and the commit"
        assert rig.ends(place)[0] > len(bad), "so they were sent there once more"
    else:
        assert done == dict.fromkeys(["first", *bad, *good], 1)


@pytest.mark.parametrize("protocol", ["eager", "cooperative"])
def test_members_that_come_and_go_while_messages_rest_lose_and_repeat_none(rig: Rig, protocol: str) -> None:
    topic = resting(rig, partitions=4)
    rested = {**KEYED, "rounds": 1, "rest": "6s"}
    settings = rig.settings({topic: rested}, kafka=PROTOCOLS[protocol], worker={"revoke": "300ms", "drain": "300ms"})
    seen: list[tuple[str, int, float]] = []

    def worker() -> ss.Worker:
        made = rig.worker(settings, "normal")

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            seen.append((text_of(message), message.round, time.time()))
            if message.round == 0:
                raise ValueError

        return made

    values = [f"v{number}" for number in range(40)]
    for number, value in enumerate(values):
        rig.send(topic, [value], key=value, partition=number % 4)
    with worker():
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "all of them at rest")
        before = len(rig.heard.rebalances(Lane.NORMAL))
        with worker():
            eventually(lambda: len(rig.heard.rebalances(Lane.NORMAL)) >= before + 2, "a second member")
        eventually(lambda: rig.caught_up(Lane.NORMAL, f"{topic}.retry"), "everything handled")
    due = {text_of(each): (story_of(headers_of(each)).due_ms or 0) / 1000 for each in rig.read(f"{topic}.retry")}
    assert Counter((value, number) for value, number, _ in seen) == dict.fromkeys(
        [(value, number) for value in values for number in (0, 1)], 1
    )
    assert all(at >= due[value] for value, number, at in seen if number == 1)


def test_a_retry_topic_that_is_made_late_is_waited_for_and_read_from_its_first_message(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    kafka = {"auto.offset.reset": "latest", "topic.metadata.refresh.interval.ms": 300}
    worker = rig.worker(rig.settings({topic: {**KEYED, "rounds": 1, "rest": "0s"}}, kafka=kafka))
    seen: list[tuple[Lane, str, int]] = []

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        seen.append((message.lane, text_of(message), message.round))
        if message.round == 0:
            raise ValueError

    for headers in BOTH:
        rig.send(topic, ["first"], headers)
    with worker:
        eventually(lambda: all(map(rig.heard.copies_failed, Lane)), "both lanes' message without a place to rest")
        assert all(rig.committed(rig.group_of(lane), topic)[0] <= lane_offset for lane_offset, lane in enumerate(Lane))
        rig.kafka.create_topics({retry_topic(topic, lane): 1 for lane in Lane})
        eventually(lambda: len(seen) == 4 and quiet(rig, topic), "both lanes' message, twice")
    assert sorted(seen) == sorted((lane, "first", number) for lane in Lane for number in (0, 1))


def test_what_rests_is_listed_with_its_round_and_when_it_is_due_and_whether_the_worker_is_done_with_it(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    long, short = resting(rig), resting(rig)
    keyed = {**KEYED, "rounds": 2}
    worker = rig.worker(rig.settings({long: {**keyed, "rest": "1h"}, short: {**keyed, "rest": "0s"}}))

    def handler(message: ss.Message) -> None:
        if message.round == 0:
            raise LookupError("no such voucher")

    for topic in (long, short):
        worker.handles(topic)(handler)
        for headers in BOTH:
            rig.send(topic, ["bad"], headers, key="k")
    with worker:
        eventually(lambda: quiet(rig, short), "nothing at rest in one topic")
        eventually(lambda: all(rig.ends(retry_topic(long, lane))[0] for lane in Lane), "all at rest in the other")

    def listed(topic: str, *more: str) -> str:
        assert main(["retry", "ls", topic, *more, "--config", str(rig.folder / "shadowstream.yaml")]) == 0
        return capsys.readouterr().out

    normal, shadow, summary = map(json.loads, listed(long, "--json").splitlines())
    assert summary["summary"] == {"letters": 2, "by": {"builtins.LookupError": 2}, "answered": 0, "expired": 0}
    assert (normal["topic"], shadow["topic"]) == (f"{long}.retry", f"{long}.shadow.retry")
    assert (normal["lane"], normal["run"], shadow["lane"], shadow["run"]) == ("normal", None, "shadow", "fcst-1111")
    assert (normal["original"]["topic"], normal["original"]["offset"], normal["key"]) == (long, 0, "k")
    assert (normal["attempts"], normal["rounds"], normal["answered"]) == (1, 1, False)
    assert 3_600_000 <= normal["due_ms"] - normal["failed_at_ms"] <= 4_320_000
    table = listed(long, "--lane", "normal")
    assert "1 due 20" in table
    assert "1 letters, 0 answered for by the worker" in table
    assert "(answered)" in listed(short)
    assert "2 letters, 2 answered for by the worker" in listed(short)
    assert all(rig.members(rig.group_of(lane)) == [] for lane in Lane)


@pytest.fixture
def exact_rig(unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """A place on a broker that reaches itself at its address, without which it ends no transaction."""
    with KafkaContainer(host_network=True) as broker:
        mine = Rig(broker, unique, tmp_path)
        yield mine
        mine.close()


def test_on_a_transactional_topic_a_kill_makes_nothing_rest_or_come_out_twice(exact_rig: Rig) -> None:
    rig = exact_rig
    topic, out = resting(rig), rig.topic("out")
    app = FAILS_AT_FIRST.format(topic=topic) + f"    producer.produce({out!r}, message.value(), message.key())\n"
    values = [f"bad{number}" for number in range(200)]
    exact = {**KEYED, "rounds": 1, "rest": "1s", "transactional": True}
    with Service(rig, app, {topic: exact}, kafka=AT_ONCE, worker={"commit_every": "500ms"}) as service:
        for start in range(0, len(values), 50):
            for value in values[start : start + 50]:
                rig.producer.produce(topic, value, value)
            assert rig.producer.flush(30) == 0
            eventually(lambda least=start: len(committed(rig, f"{topic}.retry")) > least, "some of them at rest")
            service.kill()
            service.start()
        eventually(lambda: set(committed(rig, out)) == set(values), "everything out")
    assert sorted(committed(rig, out)) == sorted(values), "each once"
    assert sorted(committed(rig, f"{topic}.retry")) == sorted(values), "and each rested once"
