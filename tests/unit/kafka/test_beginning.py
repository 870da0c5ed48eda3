"""Where a lane begins, on a broker in memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, TopicPartition

import shadowstream as ss
from shadowstream.errors import BrokerError
from shadowstream.kafka.clock import Clock as Moments
from shadowstream.kafka.worker.beginning import start_at
from shadowstream.lane import Lane
from shadowstream.testing import Broker, Clock, MemoryConsumer

if TYPE_CHECKING:
    from pathlib import Path

    from shadowstream.config import Settings


def settings_with(folder: Path, reset: str, *, transactional: bool = False) -> Settings:
    file = folder / "shadowstream.yaml"
    kafka = f"{{bootstrap.servers: 'h:1', group.id: g, auto.offset.reset: {reset}}}"
    topic = f"{{rounds: 1, transactional: {str(transactional).lower()}}}"
    file.write_text(f"service: s\nkafka: {kafka}\ntopics: {{t: {topic}}}\n")
    return ss.load(str(file))


def consumer_in(broker: Broker, settings: Any, **_: object) -> Any:
    return MemoryConsumer({"group.id": settings.kafka["group.id"], "enable.auto.commit": False}, broker=broker)


@pytest.mark.parametrize(("reset", "first"), [("earliest", 0), ("latest", 2)])
def test_a_shadow_lane_that_has_read_nothing_yet_begins_at_the_same_place_after_a_rebalance(
    tmp_path: Path, reset: str, first: int
) -> None:
    settings, broker = settings_with(tmp_path, reset), Broker(Clock())
    broker.create_topic("t")
    for value in (b"0", b"1"):
        broker.append("t", value)
    normal, shadow = (consumer_in(broker, settings.of(lane)) for lane in Lane)
    begin = start_at(settings, Lane.SHADOW, shadow, partial(consumer_in, broker))
    known, begun = begin([TopicPartition("t", 0)], False)
    assert (known, [each.offset for each in begun]) == ([], [first])
    shadow.commit(offsets=begun, asynchronous=False)

    normal.commit(offsets=[TopicPartition("t", 0, 2)], asynchronous=False)
    broker.append("t", b"2")
    known, begun = begin([TopicPartition("t", 0)], False)
    assert ([each.offset for each in known], begun) == ([first], [])


def places(found: list[TopicPartition]) -> dict[int, int]:
    return {each.partition: each.offset for each in found}


def test_a_partition_that_was_added_is_read_from_its_first_message_however_far_normal_is(tmp_path: Path) -> None:
    settings, broker = settings_with(tmp_path, "latest"), Broker(Clock())
    broker.create_topic("t", 2)
    for value in (b"0", b"1"):
        broker.append("t", value, partition=1)
    normal, shadow = (consumer_in(broker, settings.of(lane)) for lane in Lane)
    shadow.commit(offsets=[TopicPartition("t", 0, 7)], asynchronous=False)
    normal.commit(offsets=[TopicPartition("t", 1, 2)], asynchronous=False)
    known, begun = start_at(settings, Lane.SHADOW, shadow, partial(consumer_in, broker))(
        [TopicPartition("t", 1)], False
    )
    assert (known, places(begun)) == ([], {1: 0})


def test_what_was_written_since_the_process_began_is_not_passed_over_however_far_normal_is(tmp_path: Path) -> None:
    settings, broker = settings_with(tmp_path, "earliest"), Broker(Clock())
    normal, shadow = (consumer_in(broker, settings.of(lane)) for lane in Lane)
    clock = Moments(wall=broker.clock.time)
    broker.create_topic("t")
    broker.append("t", b"before")
    broker.clock.advance(1)
    begin = start_at(settings, Lane.SHADOW, shadow, partial(consumer_in, broker), clock)
    normal.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=False)
    assert places(begin([TopicPartition("t", 0)], False).begun) == {0: 1}
    for value in (b"1", b"2"):
        broker.append("t", value)
    normal.commit(offsets=[TopicPartition("t", 0, 3)], asynchronous=False)
    assert places(begin([TopicPartition("t", 0)], False).begun) == {0: 1}


def test_whoever_has_the_first_partition_says_where_a_new_group_begins_and_the_others_wait(tmp_path: Path) -> None:
    settings, broker = settings_with(tmp_path, "earliest"), Broker(Clock())
    broker.create_topic("t", 3)
    normal, shadow = (consumer_in(broker, settings.of(lane)) for lane in Lane)
    normal.commit(offsets=[TopicPartition("t", each, 5 + each) for each in range(3)], asynchronous=False)
    begin = start_at(settings, Lane.SHADOW, shadow, partial(consumer_in, broker))
    with pytest.raises(BrokerError, match="partition 0 of t has not said yet"):
        begin([TopicPartition("t", 1)], False)
    assert places(begin([TopicPartition("t", 1)], True).begun) == {1: 6}, "nobody says it in time"
    assert places(begin([TopicPartition("t", 0)], False).begun) == {0: 5, 1: 6, 2: 7}


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_a_retry_topic_is_read_from_its_first_message_whatever_the_reset_says(
    tmp_path: Path, lane: Lane, reset: str
) -> None:
    settings, broker = settings_with(tmp_path, reset), Broker(Clock())
    place = "t.retry" if lane is Lane.NORMAL else "t.shadow.retry"
    broker.create_topic(place)
    broker.append(place, b"0")
    ours = consumer_in(broker, settings.of(lane))
    begin = start_at(settings, lane, ours, partial(consumer_in, broker))
    known, begun = begin([TopicPartition(place, 0)], False)
    assert ([each.offset for each in known], begun) == ([OFFSET_BEGINNING], [])
    ours.commit(offsets=[TopicPartition(place, 0, 1)], asynchronous=False)
    known, begun = begin([TopicPartition(place, 0)], False)
    assert ([each.offset for each in known], begun) == ([1], [])


def test_a_retry_topic_is_not_begun_anew_when_nobody_could_say_how_far_it_was_read(tmp_path: Path) -> None:
    settings, broker = settings_with(tmp_path, "latest"), Broker(Clock())
    broker.create_topic("t.retry")
    ours = consumer_in(broker, settings.normal)
    broker.stop()
    known, begun = start_at(settings, Lane.NORMAL, ours)([TopicPartition("t.retry", 0)], True)
    assert ([each.offset for each in known], begun) == ([OFFSET_INVALID], [])


@pytest.mark.parametrize("transactional", [False, True])
def test_where_nothing_may_be_repeated_normal_does_not_begin_without_knowing_what_is_committed(
    tmp_path: Path, transactional: bool
) -> None:
    settings, broker = settings_with(tmp_path, "earliest", transactional=transactional), Broker(Clock())
    broker.create_topic("t")
    begin = start_at(settings, Lane.NORMAL, consumer_in(broker, settings.normal), partial(consumer_in, broker))
    broker.faults.down = True
    places = [TopicPartition("t", 0)]
    if transactional:
        with pytest.raises(BrokerError, match="committed offsets cannot be read"):
            begin(places, True)
    else:
        assert begin(places, True) == (places, [])
