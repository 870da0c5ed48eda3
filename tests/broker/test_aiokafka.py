"""aiokafka on a real broker: a consumer for each lane, and a producer that stamps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer

import shadowstream as ss
from shadowstream.errors import MarkError
from shadowstream.integrations.aiokafka import LaneConsumer, LaneProducer
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, headers_of, text_of
from tests.broker.wire import produce

if TYPE_CHECKING:
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"
WAIT_S = 30.0
EARLIEST = {"auto_offset_reset": "earliest"}


def consumed(settings: ss.Settings, lane: Lane, topic: str, count: int, **more: Any) -> list[tuple[str, str | None]]:
    """Handle so many messages in one lane, and commit each."""

    async def consume() -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []
        async with asyncio.timeout(WAIT_S), LaneConsumer(settings, lane, [topic], **EARLIEST, **more) as consumer:
            async for message in consumer:
                with consumer.lane_of(message):
                    mark = ss.current()
                    found.append(((message.value or b"").decode(), None if mark is None else mark.run))
                await consumer.raw.commit()
                if len(found) == count:
                    return found
        raise AssertionError

    return asyncio.run(consume())


def test_each_lane_handles_its_own_messages_in_order(rig: Rig) -> None:
    topic = rig.topic()
    for number in range(4):
        rig.send_both(topic, number)
    settings = rig.settings({topic: {}})
    assert consumed(settings, Lane.NORMAL, topic, 4) == [(str(number), None) for number in range(4)]
    assert consumed(settings, Lane.SHADOW, topic, 4) == [(str(number), RUN) for number in range(4)]
    assert rig.committed(rig.group_of(Lane.SHADOW), topic) == {0: 8}


def test_what_is_sent_carries_the_lane(rig: Rig) -> None:
    same, moved = rig.topics("same", "moved")
    settings = rig.settings({same: {}, moved: {"route": "topic"}})

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=rig.bootstrap) as raw:
            producer = LaneProducer(settings, raw)
            for topic in (same, moved):
                with ss.entered(ss.Mark(run=RUN)):
                    await producer.send_and_wait(topic, b"s", headers=[("own", b"1")])
                await (await producer.send(topic, b"n", b"key"))
            with pytest.raises(MarkError, match="at hand is normal"):
                await producer.send(same, b"x", headers=[("x-shadow", b"1;run=a")])
            with pytest.raises(MarkError, match="is shadow's and the work at hand is normal"):
                await producer.send(f"shadow.{moved}", b"x")

    asyncio.run(send())
    found = {text_of(each): headers_of(each) for each in rig.read(same)}
    assert found["n"] == []
    assert [name for name, _ in found["s"]] == ["own", "x-shadow"]
    assert rig.values(moved) == ["n"]
    assert rig.values(f"shadow.{moved}") == ["s"]


def test_what_cannot_be_trusted_is_set_aside_before_the_next_message_comes(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, ["first"], MARKED)
    rig.send(topic, ["junk"], [("x-shadow", b"junk")])
    produce(rig.bootstrap, topic, b"poison", [(b"\xff", b"x")])
    rig.send_both(topic, "last")
    settings = rig.settings({topic: {}})
    assert consumed(settings, Lane.SHADOW, topic, 2) == [("first", RUN), ("last", RUN)]
    assert rig.values(f"{topic}.quarantine") == ["junk"]
    assert consumed(settings, Lane.NORMAL, topic, 1) == [("last", None)]
    assert rig.values(f"{topic}.quarantine") == ["junk", "poison"]


def test_the_gate_hears_how_the_work_ended(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, range(8), MARKED)
    topics = {topic: {"shadow": {"on_limit": "shed"}}}
    settings = rig.settings(topics, resilience={topic: {"min_calls": 3, "window": 10, "open_for": "1h"}})

    async def fail() -> int:
        failed = 0
        async with LaneConsumer(settings, "shadow", [topic], hooks=[rig.heard], **EARLIEST) as consumer:
            while True:
                try:
                    message = await asyncio.wait_for(consumer.getone(), 5.0)
                except TimeoutError:
                    return failed
                with pytest.raises(LookupError), consumer.lane_of(message):  # noqa: PT012 - what it counts is the point
                    failed += 1
                    raise LookupError("mine")

    assert asyncio.run(fail()) == 3
    assert rig.heard.outcomes(Lane.SHADOW, topic) == {"failed": 3, "shed": 5}


def test_a_topic_that_is_not_configured_is_refused_with_the_cure(rig: Rig) -> None:
    with pytest.raises(ss.ShadowstreamError, match="under `topics:`"):
        LaneConsumer(rig.settings({}), "normal", ["nowhere"])
