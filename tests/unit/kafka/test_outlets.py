"""Copies: what they hold, and that the source waits for their delivery."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as RawMessage

import shadowstream as ss
from shadowstream.events import CopyFailed, Event, Listeners
from shadowstream.kafka import outlets as outlets_module
from shadowstream.kafka.labels import Scribe, Story, scribe_of
from shadowstream.kafka.letters.story import story_of
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.outlets import Interrupted, Outlets, Senders, side_topics
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Report = tuple[dict[str, Any], "Callable[[KafkaError | None, object], None]"]


MARKED = ("x-shadow", b"1;run=r")
SCRIBE = Scribe(Lane.SHADOW, "g.shadow", "svc.shadow@host/7", "x-shadow")


class Client:
    """A producer's stand-in: keeps what it is given until the test reports on it."""

    def __init__(self) -> None:
        self.sent: list[Report] = []
        self.full = 0
        self.refuses: KafkaError | None = None
        self.alone: Client | None = None

    def made(self, **properties: object) -> Client:
        """Be the client for nearly all copies, and have another for those that go alone."""
        if not properties:
            return self
        assert properties == {"batch.num.messages": 1}
        self.alone = Client()
        return self.alone

    def produce(self, topic: str, value: object, key: object, *, on_delivery: Any, **rest: Any) -> None:
        if self.full:
            self.full -= 1
            raise BufferError
        if self.refuses is not None:
            error, self.refuses = self.refuses, None
            raise KafkaException(error)
        self.sent.append(({"topic": topic, "value": value, "key": key, **rest}, on_delivery))

    def poll(self, timeout: float) -> int:
        return 0

    def report(self, error: KafkaError | None = None) -> dict[str, Any]:
        copy, on_delivery = self.sent.pop(0)
        on_delivery(error, None)
        return copy


class Heard:
    """A hook that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def outlets(client: Client, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Outlets:
    monkeypatch.setattr(outlets_module, "RETRY_S", 0.0)
    return Outlets(Senders(client.made), "t", SCRIBE, Listeners([heard]))  # type: ignore[arg-type]


def piece() -> Piece:
    marked: list[tuple[str, bytes | None]] = [("x-shadow", b"1;run=r"), ("trace", None), ("trace", b"\xff")]
    return Piece(
        [RawMessage(topic="t", partition=7, offset=41, key=b"k", value=b"v", headers=marked, timestamp=(1, 1234))]
    )


def test_a_copy_keeps_everything_and_says_where_it_came_from(outlets: Outlets, client: Client) -> None:
    held = piece()
    outlets.quarantine(held.messages[0], held, "empty")
    copy = client.report()
    assert (copy["topic"], copy["key"], copy["value"], copy["timestamp"]) == ("t.quarantine", b"k", b"v", 1234)
    assert copy["headers"] == [
        ("x-shadow", b"1;run=r"),
        ("trace", None),
        ("trace", b"\xff"),
        ("kafka_dlt-original-topic", b"t"),
        ("kafka_dlt-original-partition", b"\0\0\0\7"),
        ("kafka_dlt-original-offset", b"\0\0\0\0\0\0\0\x29"),
        ("kafka_dlt-original-timestamp", (1234).to_bytes(8, "big")),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"g.shadow"),
        ("shadowstream-client", b"svc.shadow@host/7"),
        ("shadowstream-reason", b"empty"),
    ]


@pytest.mark.parametrize("kind", ["park", "quarantine", "dead_letter"])
def test_every_copy_names_the_worker_that_wrote_it(outlets: Outlets, client: Client, kind: str) -> None:
    held = piece()
    more = {"park": (), "quarantine": ("empty",), "dead_letter": (ValueError(), Story("c", Lane.SHADOW))}[kind]
    getattr(outlets, kind)(held.messages[0], held, *more)
    assert dict(client.report()["headers"])["shadowstream-client"] == b"svc.shadow@host/7"


def test_the_name_of_a_worker_is_its_client_its_host_and_its_instance_or_process(tmp_path: Path) -> None:
    file = tmp_path / "shadowstream.yaml"
    file.write_text("service: svc\nkafka: {bootstrap.servers: 'h:1', group.id: g}\ntopics: {t: {}}\n")
    lane = ss.load(file).of(Lane.SHADOW)
    scribe = scribe_of(lane, "x-shadow")
    assert scribe == Scribe(Lane.SHADOW, "g.shadow", f"svc.shadow@{socket.gethostname()}/{os.getpid()}", "x-shadow")
    static = replace(lane, kafka={**lane.kafka, "group.instance.id": "pod-3"})
    assert scribe_of(static, "x-shadow").client == f"svc.shadow@{socket.gethostname()}/pod-3"


def test_a_copy_of_a_copy_tells_one_story(outlets: Outlets, client: Client) -> None:
    headers: Any = None
    for number in range(3):
        raw = RawMessage(
            topic="t", partition=number, offset=1, headers=headers or [("own", b"1"), MARKED, ("own", b"2")]
        )
        held = Piece([raw])
        if number == 1:
            outlets.park(raw, held)
        else:
            outlets.dead_letter(raw, held, ValueError(number), Story("c", Lane.SHADOW).failed(number + 1.0))
        headers = [*client.report()["headers"], ("shadowstream-replayed", b"%d" % number)]
    names = [name for name, _ in headers[:-1]]
    assert headers[:3] == [("own", b"1"), MARKED, ("own", b"2")]
    assert sorted(names[3:]) == sorted(set(names[3:])), "no label is there twice"
    story = story_of(headers[:-1])
    assert (story.partition, story.message, story.first_failed_ms, story.reason) == (2, "2", 3000, None)
    assert story.replayed == 1, "how often it was sent back outlives the story"


def test_a_dead_letter_tells_the_exception(outlets: Outlets, client: Client) -> None:
    held = piece()
    story = Story("voucher.dispatch", Lane.SHADOW).failed(100.0).failed(102.5)
    outlets.dead_letter(held.messages[0], held, KeyError("voucher"), story)
    copy = client.report()
    headers = dict(copy["headers"])
    assert copy["topic"] == "t.shadow.dlq"
    assert headers["kafka_dlt-exception-fqcn"] == b"builtins.KeyError"
    assert headers["kafka_dlt-exception-message"] == b"'voucher'"
    assert b"KeyError" in headers["kafka_dlt-exception-stacktrace"]
    told = {name.removeprefix("shadowstream-"): value for name, value in story.headers()}
    assert told == {
        "lane": b"shadow",
        "command": b"voucher.dispatch",
        "attempts": b"2",
        "first-failed": b"100000",
        "failed-at": b"102500",
    }
    assert [header for header in copy["headers"] if header in story.headers()] == story.headers()


def test_no_two_lanes_share_a_dead_letter_topic() -> None:
    assert side_topics("t", Lane.NORMAL)["dlq"] == "t.dlq"
    assert side_topics("t", Lane.SHADOW)["dlq"] == "t.shadow.dlq"


def test_the_source_is_answered_for_only_after_the_delivery_report(outlets: Outlets, client: Client) -> None:
    held = piece()
    outlets.park(held.messages[0], held)
    held.done = 1
    assert held.lowest() == 41
    client.report()
    assert held.lowest() is None


def test_an_undelivered_copy_is_tried_again_and_its_offset_waits(
    outlets: Outlets, client: Client, heard: Heard
) -> None:
    held = piece()
    outlets.park(held.messages[0], held)
    held.done = 1
    client.report(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert held.lowest() == 41
    assert heard.events == [CopyFailed(Lane.SHADOW, "t.shadow.parked", "TOPIC_AUTHORIZATION_FAILED")]
    outlets.serve()
    client.report()
    assert held.lowest() is None


def test_a_copy_too_large_for_the_broker_goes_without_its_value(outlets: Outlets, client: Client) -> None:
    held = piece()
    outlets.park(held.messages[0], held)
    client.report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    outlets.serve()
    assert client.alone is not None
    client.alone.report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    outlets.serve()
    copy = client.alone.report()
    assert copy["value"] is None
    assert copy["headers"][-1] == ("shadowstream-left-out", b"value")


def test_a_copy_that_shared_its_batch_with_one_too_large_keeps_its_value(outlets: Outlets, client: Client) -> None:
    held = piece()
    outlets.park(held.messages[0], held)
    client.report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    outlets.serve()
    assert client.alone is not None
    copy = client.alone.report()
    assert copy["value"] == held.messages[0].value()
    held.done = 1
    assert held.lowest() is None


def test_a_copy_that_is_due_again_while_the_queue_is_full_is_not_forgotten(outlets: Outlets, client: Client) -> None:
    held = piece()
    outlets.park(held.messages[0], held)
    client.report(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    client.full = 1
    outlets.serve()
    assert client.sent == []
    outlets.serve()
    assert len(client.sent) == 1


def test_a_full_queue_is_waited_for(outlets: Outlets, client: Client) -> None:
    held = piece()
    client.full = 3
    outlets.park(held.messages[0], held)
    assert len(client.sent) == 1


def test_a_full_queue_is_not_waited_for_once_the_work_is_called_off(outlets: Outlets, client: Client) -> None:
    held = piece()
    held.cancelled = True
    client.full = 3
    with pytest.raises(Interrupted):
        outlets.park(held.messages[0], held)
    assert held.held == set()
