"""FastStream on a real broker: a broker object for each lane, with the middleware."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from faststream.kafka import KafkaBroker

import shadowstream as ss
from shadowstream.headers import MarkReader
from shadowstream.integrations.faststream import FastStreamLane
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, headers_of, text_of
from tests.broker.wire import produce

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"
ANSWERS_S = 10.0


class App:
    """A FastStream app in both lanes, in one loop; as people run it, each has a process."""

    def __init__(self, rig: Rig, topics: dict[str, dict[str, Any]], **sections: Any) -> None:
        settings = rig.settings(topics, **sections)
        self.lanes = {lane: FastStreamLane(settings, lane, hooks=[rig.heard]) for lane in Lane}
        self.brokers = {
            lane: KafkaBroker(each.servers, middlewares=[each.middleware], logger=logging.getLogger("faststream"))
            for lane, each in self.lanes.items()
        }
        self.seen: dict[Lane, list[tuple[str, str | None]]] = {lane: [] for lane in Lane}

    def note(self, lane: Lane, value: str) -> None:
        mark = ss.current()
        self.seen[lane].append((value, None if mark is None else mark.run))

    def subscriber(self, lane: Lane, topic: str) -> Any:
        each = self.lanes[lane]
        return self.brokers[lane].subscriber(each.topic(topic), group_id=each.group, auto_offset_reset="earliest")

    def notes(self, topic: str, then: Callable[[Lane], None] = lambda _: None) -> None:
        """Let both lanes write down what they handle."""

        def subscribe(lane: Lane) -> None:
            # FastStream takes each argument for a part of the message.
            @self.subscriber(lane, topic)
            async def handle(value: str) -> None:
                self.note(lane, value)
                then(lane)

        for lane in Lane:
            subscribe(lane)

    def run(self, done: Callable[[], object]) -> None:
        asyncio.run(self._run(done))

    async def _run(self, done: Callable[[], object]) -> None:
        for broker in self.brokers.values():
            await broker.start()
        until = time.monotonic() + DEADLINE_S
        try:
            while not done():
                assert time.monotonic() < until, f"not in time: {self.seen}"
                await asyncio.sleep(0.05)
        finally:
            for lane, broker in self.brokers.items():
                await broker.stop()
                await self.lanes[lane].close()


def test_each_lane_handles_its_own_messages(rig: Rig) -> None:
    topic = rig.topic()
    for number in range(4):
        rig.send_both(topic, f"v{number}")
    app = App(rig, {topic: {}})
    app.notes(topic)
    app.run(lambda: all(len(seen) == 4 for seen in app.seen.values()))
    assert app.seen[Lane.NORMAL] == [(f"v{number}", None) for number in range(4)]
    assert app.seen[Lane.SHADOW] == [(f"v{number}", RUN) for number in range(4)]


def test_what_a_handler_returns_is_published_in_its_lane(rig: Rig) -> None:
    topic, returned, sent = rig.topics("in", "returned", "sent")
    rig.send_both(topic, "v")
    app = App(rig, {topic: {}})

    def subscribe(lane: Lane) -> None:
        @app.brokers[lane].publisher(returned)
        @app.subscriber(lane, topic)
        async def handle(value: str) -> str:
            await app.brokers[lane].publish(value, sent)
            app.note(lane, value)
            return value

    for lane in Lane:
        subscribe(lane)
    app.run(lambda: all(app.seen.values()) and sum(rig.ends(returned).values()) == 2)
    for out in (returned, sent):
        found = [MarkReader().read(headers_of(message), time.time()) for message in rig.read(out)]
        assert sorted(each.mark.run if each.mark else "" for each in found) == ["", RUN]
        assert not any(each.reason for each in found)


def test_what_cannot_be_trusted_is_set_aside_and_stops_nobody(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, ["junk"], [("x-shadow", b"junk")])
    produce(rig.bootstrap, topic, b"poison", [(b"\xff", b"x")])
    rig.send_both(topic, "last")
    app = App(rig, {topic: {}})
    app.notes(topic)
    app.run(lambda: all(app.seen.values()) and sum(rig.ends(f"{topic}.quarantine").values()) == 2)
    assert app.seen == {Lane.NORMAL: [("last", None)], Lane.SHADOW: [("last", RUN)]}
    reasons = {text_of(each): dict(headers_of(each))["shadowstream-reason"] for each in rig.read(f"{topic}.quarantine")}
    assert reasons == {"junk": b"malformed", "poison": b"unreadable"}


def test_a_handler_that_fails_opens_its_own_lanes_breaker(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, [f"s{number}" for number in range(8)], MARKED)
    rig.send(topic, ["n"])
    topics = {topic: {"shadow": {"on_limit": "shed"}}}
    app = App(rig, topics, resilience={topic: {"min_calls": 3, "window": 10, "open_for": "1h"}})

    def fail(lane: Lane) -> None:
        if lane is Lane.SHADOW:
            raise LookupError(lane)

    app.notes(topic, fail)
    app.run(lambda: app.seen[Lane.NORMAL] and rig.heard.outcomes(Lane.SHADOW, topic).get("shed") == 5)
    assert len(app.seen[Lane.SHADOW]) == 3
    assert rig.heard.outcomes(Lane.SHADOW, topic) == {"failed": 3, "shed": 5}
    assert rig.heard.outcomes(Lane.NORMAL, topic) == {"handled": 1}
