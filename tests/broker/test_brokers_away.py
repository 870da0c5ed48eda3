"""Brokers that are away for longer than every timeout, in the midst of the work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from shadowstream.lane import Lane
from tests.broker.rig import Rig, eventually, text_of
from tests.broker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from containers.kafka import KafkaContainer

APP = """
@worker.handles("{topic}")
def handler(message):
    note(message, "begun")
    while os.path.exists("held"):
        time.sleep(0.02)
    if message.value() == b"bad":
        raise ValueError("as it was asked for")
    note(message)
"""
# Minutes, in small: the client's own timeouts are so much longer.
SHORT = {
    "session.timeout.ms": 6000,
    "socket.timeout.ms": 2000,
    "message.timeout.ms": 3000,
    "reconnect.backoff.max.ms": 500,
}
AWAY_S = 15.0
"""Longer than a session, two requests and four deliveries."""


@pytest.fixture
def rig(own_kafka: KafkaContainer, unique: Callable[[str], str], tmp_path: Path) -> Rig:
    """A place on a broker that may be killed."""
    return Rig(own_kafka, unique, tmp_path)


def begun(service: Service, lane: Lane) -> set[str]:
    return {entry.value for entry in service.journal(lane, "begun")}


def test_brokers_that_are_away_for_longer_than_every_timeout_cost_no_message_and_no_lane(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    held = rig.folder / "held"
    at_once = {"order": "none", "concurrency": 32}
    with Service(rig, APP.format(topic=topic), {topic: at_once}, kafka=SHORT) as service:
        first, then, last = ([f"{name} {n}" for n in range(20)] for name in ("first", "then", "last"))
        rig.send_both(topic, *first)
        eventually(lambda: rig.both_caught_up(topic), "both lanes at work")
        held.touch()
        rig.send_both(topic, *then, "bad")
        read = {*first, *then, "bad"}
        eventually(lambda: all(begun(service, lane) == read for lane in Lane), "all of it is read before they are gone")
        lanes = {lane: service.pid(lane) for lane in Lane}
        rig.kafka.kill()
        held.unlink()
        eventually(lambda: all({*then} <= service.done(lane).keys() for lane in Lane), "what was read is handled")
        until = time.monotonic() + AWAY_S
        eventually(lambda: time.monotonic() > until, "the brokers away for long")
        rig.kafka.restart()
        rig.forget_clients()
        rig.send_both(topic, *last)
        eventually(lambda: rig.both_caught_up(topic), "everything answered for")
        assert {lane: service.pid(lane) for lane in Lane} == lanes, "the same processes"
        assert [service.done(lane).keys() for lane in Lane] == [{*first, *then, *last}] * 2
        for name in (f"{topic}.dlq", f"{topic}.shadow.dlq"):
            assert {text_of(each) for each in rig.read(name)} == {"bad"}
        service.signal()
        assert service.stopped() == 0
