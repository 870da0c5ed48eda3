"""Durable copies: what is in them, and that their source is committed only after their delivery report."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from shadowstream.lane import Lane
from tests.broker.rig import MARK, MARKED, eventually, headers_of, text_of

if TYPE_CHECKING:
    from confluent_kafka import Message as RawMessage

    import shadowstream as ss
    from tests.broker.rig import Headers, Rig

pytest_plugins = ["tests.broker.rig"]

WRITTEN_AT = 1_700_000_000_123
BINARY = bytes(range(256))
OWN: Headers = [("trace", b"1"), ("trace", b"2"), ("empty", b""), ("none", None), ("binary", BINARY)]


def written(rig: Rig, topic: str, partition: int, headers: Headers, value: bytes | None = BINARY) -> None:
    """Produce one message with everything that a copy must keep."""
    given: Any = headers
    rig.producer.produce(topic, value, b"key\xff", partition=partition, timestamp=WRITTEN_AT, headers=given)
    assert rig.producer.flush(30) == 0


def origin(rig: Rig, topic: str, partition: int, offset: int, lane: Lane) -> Headers:
    """Return the headers that say where a copy came from, and who wrote it."""
    return [
        ("kafka_dlt-original-topic", topic.encode()),
        ("kafka_dlt-original-partition", bytes([0, 0, 0, partition])),
        ("kafka_dlt-original-offset", bytes([0, 0, 0, 0, 0, 0, 0, offset])),
        ("kafka_dlt-original-timestamp", bytes.fromhex("0000018bcfe5687b")),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", rig.group_of(lane).encode()),
        ("shadowstream-client", f"tests.{lane}@{socket.gethostname()}/{os.getpid()}".encode()),
    ]


def only(rig: Rig, topic: str) -> RawMessage:
    """Return the one message of a topic."""
    (message,) = rig.read(topic)
    return message


def kept(message: RawMessage) -> tuple[bytes | None, bytes | None, int]:
    """Return what a copy must have unchanged, besides the headers."""
    return message.key(), message.value(), message.timestamp()[1]


def test_a_dead_lettered_message_keeps_everything_and_says_where_from_and_why_in_its_own_lanes_topic(rig: Rig) -> None:
    assert int.from_bytes(bytes.fromhex("0000018bcfe5687b"), "big") == WRITTEN_AT
    topic = rig.topic(partitions=3)
    rig.begin(topic)
    written(rig, topic, 2, OWN)
    written(rig, topic, 2, [*OWN, *MARKED])
    worker = rig.worker(rig.settings({topic: {"retries": 0}}))

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        raise LookupError(f"no such voucher: é {message.lane}")

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes past their message")

    for lane, place, offset, headers in (
        (Lane.NORMAL, f"{topic}.dlq", 0, OWN),
        (Lane.SHADOW, f"{topic}.shadow.dlq", 1, [*OWN, *MARKED]),
    ):
        copy = only(rig, place)
        trace = headers_of(copy)[-1]
        assert kept(copy) == (b"key\xff", BINARY, WRITTEN_AT)
        times = [
            each for each in headers_of(copy) if each[0] in {"shadowstream-first-failed", "shadowstream-failed-at"}
        ]
        assert [each for each in headers_of(copy)[:-1] if each not in times] == [
            *headers,
            *origin(rig, topic, 2, offset, lane),
            ("shadowstream-lane", lane.encode()),
            ("shadowstream-command", topic.encode()),
            ("shadowstream-attempts", b"1"),
            ("kafka_dlt-exception-fqcn", b"builtins.LookupError"),
            ("kafka_dlt-exception-message", f"no such voucher: é {lane}".encode()),
        ]
        assert [rig.started_at * 1000 < int(value or 0) < time.time() * 1000 for _, value in times] == [True, True]
        assert trace[0] == "kafka_dlt-exception-stacktrace"
        assert b"in handler" in (trace[1] or b"")
    assert sum(rig.ends(f"{topic}.quarantine").values()) + sum(rig.ends(f"{topic}.shadow.parked").values()) == 0


def test_a_parked_message_keeps_everything_its_mark_too(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    written(rig, topic, 0, [("before", b"1"), *MARKED, ("after", None)], value=None)
    settings = rig.settings(
        {topic: {"shadow": {"on_limit": "park"}}}, rate_limit={"claim": {"hard": "1000/s"}, "shadow.claim": {"hard": 0}}
    )
    worker = rig.worker(settings)
    worker.handles(topic, command="claim")(lambda message: pytest.fail(f"handled {message}"))

    with worker:
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "the shadow lane past the parked message")

    copy = only(rig, f"{topic}.shadow.parked")
    assert kept(copy) == (b"key\xff", None, WRITTEN_AT)
    assert headers_of(copy) == [
        ("before", b"1"),
        ("x-shadow", MARK),
        ("after", None),
        *origin(rig, topic, 0, 0, Lane.SHADOW),
        ("shadowstream-reason", b"refused"),
    ]
    assert rig.heard.outcomes(Lane.SHADOW) == {"parked": 1}


def test_a_shed_message_leaves_nothing_but_its_count(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["s0", "s1"], MARKED)
    settings = rig.settings({topic: {"shadow": {"on_limit": "shed"}}}, rate_limit={f"shadow.{topic}": {"hard": 0}})
    worker = rig.worker(settings)
    worker.handles(topic)(lambda message: pytest.fail(f"handled {message}"))

    with worker:
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "the shadow lane past what it shed")

    assert rig.heard.outcomes(Lane.SHADOW) == {"shed": 2}
    for place in ("shadow.parked", "quarantine", "shadow.dlq", "dlq"):
        assert rig.read(f"{topic}.{place}") == []


def test_a_quarantined_message_keeps_the_mark_that_was_not_believed(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    written(rig, topic, 0, [("x-shadow", b"1;run=a"), ("trace", b"1"), ("x-shadow", b"1;run=b")])
    worker = rig.worker(rig.settings({topic: {}}))
    worker.handles(topic)(lambda message: pytest.fail(f"handled {message}"))

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes past the message")

    copy = only(rig, f"{topic}.quarantine")
    assert kept(copy) == (b"key\xff", BINARY, WRITTEN_AT)
    assert headers_of(copy) == [
        ("x-shadow", b"1;run=a"),
        ("trace", b"1"),
        ("x-shadow", b"1;run=b"),
        *origin(rig, topic, 0, 0, Lane.SHADOW),
        ("shadowstream-reason", b"conflict"),
    ]


def test_an_undelivered_copy_is_tried_again_and_its_offset_waits(rig: Rig) -> None:
    topic, beside = rig.topics("in", "beside", aside=False)
    rig.begin(topic, beside)
    rig.send(topic, ["s0", "s1"], MARKED)
    settings = rig.settings(
        {topic: {"shadow": {"on_limit": "park"}}, beside: {}},
        rate_limit={f"shadow.{topic}": {"hard": 0}},
        kafka={"topic.metadata.propagation.max.ms": 500},
    )
    worker = rig.worker(settings)
    for each in (topic, beside):
        worker.handles(each)(lambda _: None)

    with worker:
        eventually(lambda: rig.heard.copies_failed(Lane.SHADOW), "an attempt that failed")
        rig.send(beside, ["s2"], MARKED)
        eventually(lambda: rig.caught_up(Lane.SHADOW, beside), "a commit of something handled later")
        standing = rig.committed(rig.group_of(Lane.SHADOW), topic)
        assert rig.caught_up(Lane.NORMAL, topic), "normal does not wait for shadow's copies"

        rig.kafka.create_topics({f"{topic}.shadow.parked": 1})
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "the commit after the delivery")

    assert standing == {0: 0}
    assert [text_of(message) for message in rig.read(f"{topic}.shadow.parked")] == ["s0", "s1"]


def test_a_copy_too_large_for_the_broker_goes_without_its_value(rig: Rig) -> None:
    topic = rig.topics("in", aside=False)[0]
    rig.kafka.create_topics({f"{topic}.dlq": 1}, {"max.message.bytes": "20000"})
    rig.begin(topic)
    rig.send(topic, ["x" * 30_000], [("trace", b"1")], key=b"k")
    worker = rig.worker(rig.settings({topic: {"retries": 0}}), "normal")

    @worker.handles(topic)
    def handler(_: ss.Message) -> None:
        raise ValueError

    with worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the message set aside")

    copy = only(rig, f"{topic}.dlq")
    assert (copy.key(), copy.value()) == (b"k", None)
    assert headers_of(copy)[0] == ("trace", b"1")
    assert headers_of(copy)[-1] == ("shadowstream-left-out", b"value")
