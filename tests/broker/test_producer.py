"""What a caller of produce() is told, and what it may not say."""

from __future__ import annotations

import gc
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from shadowstream.errors import MarkError
from tests.broker.rig import DEADLINE_S, eventually, headers_of, text_of

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = ss.Mark(run="fcst-1111")
LANES = pytest.mark.parametrize("mark", [None, RUN], ids=["normal", "shadow"])


class Reports(list[str]):
    """A delivery callback that remembers whose report it got."""

    def __call__(self, error: KafkaError | None, message: RawMessage) -> None:
        """Take one report."""
        self.append(text_of(message) if error is None else error.name())


@LANES
def test_each_produced_message_is_reported_to_its_callback_whatever_else_was_said(
    rig: Rig, mark: ss.Mark | None
) -> None:
    topic = rig.topic()
    producer = ss.Producer(rig.settings({topic: {}}))
    reports = Reports()
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "partition": {"partition": 0},
        "timestamp": {"timestamp": 1_700_000_000_123},
        "key": {"key": "k"},
        "headers": {"headers": [("trace", b"1")]},
        "all": {"key": b"k", "partition": 0, "timestamp": 1_700_000_000_123, "headers": {"trace": "1"}},
    }

    with ss.entered(mark):
        for name, more in ways.items():
            producer.produce(topic, name, on_delivery=reports, **more)
        producer.produce(topic, "unreported")

    eventually(lambda: producer.poll(0.1) + len(reports) >= len(ways), "a report for each")
    assert producer.flush(DEADLINE_S) == 0
    assert sorted(reports) == sorted(ways)
    assert sorted(rig.values(topic)) == sorted([*ways, "unreported"])


@LANES
def test_a_message_that_waited_for_room_in_the_queue_is_sent_once_and_reported_too(
    rig: Rig, mark: ss.Mark | None
) -> None:
    topic = rig.topic()
    producer = ss.Producer(rig.settings({topic: {}}, kafka={"queue.buffering.max.messages": 2}))
    reports = Reports()

    with ss.entered(mark):
        for number in range(20):
            producer.produce(topic, str(number), on_delivery=reports)

    assert producer.flush(DEADLINE_S) == 0
    assert reports == [str(number) for number in range(20)]
    assert rig.values(topic) == reports
    marked = ["x-shadow" in dict(headers_of(message)) for message in rig.read(topic)]
    assert marked == [mark is not None] * 20


def test_an_undeliverable_message_is_reported_as_such_and_flush_says_what_is_left(rig: Rig) -> None:
    topic = rig.topic()
    quick = {"topic.metadata.propagation.max.ms": 300, "message.timeout.ms": 1500}
    producer = ss.Producer(rig.settings({topic: {}}, kafka=quick))
    reports = Reports()

    producer.produce(f"{topic}.nowhere", "lost", on_delivery=reports)

    assert (producer.flush(0.0), len(producer)) == (1, 1)
    assert producer.flush(DEADLINE_S) == 0
    assert len(reports) == 1
    assert reports[0] in {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_MSG_TIMED_OUT"}


@pytest.mark.parametrize("forwarded", [b"1;run=another", b"v9;run=fcst-1111", b""])
def test_a_mark_forwarded_by_hand_that_is_not_the_one_of_the_work_at_hand_is_refused_and_nothing_is_sent(
    rig: Rig, forwarded: bytes
) -> None:
    topic = rig.topic()
    producer = ss.Producer(rig.settings({topic: {}}))

    with ss.entered(RUN), pytest.raises(MarkError, match="leave the header out"):
        producer.produce(topic, "s", headers=[("x-shadow", forwarded)])

    assert producer.flush(DEADLINE_S) == 0
    assert rig.ends(topic) == {0: 0}


def test_a_mark_forwarded_by_hand_outside_of_its_lane_makes_the_message_shadow_and_stands_there_once(rig: Rig) -> None:
    topic = rig.topic()
    producer = ss.Producer(rig.settings({topic: {}}))

    mark = f"1;run=fcst-1111;exp={int(rig.started_at) + 3600}"

    producer.produce(topic, "s", headers={"x-shadow": mark, "trace": "1"})

    assert producer.flush(DEADLINE_S) == 0
    (message,) = rig.read(topic)
    assert headers_of(message) == [("trace", b"1"), ("x-shadow", f"{mark};hop=1".encode())]


def passed_on(producer: ss.Producer, topic: str, message: ss.Message) -> None:
    producer.produce(topic, message.value())


def test_a_producer_that_nobody_holds_any_more_takes_its_thread_and_its_clients_along(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    settings = rig.settings({topic: {}, out: {}})

    def reporting() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "delivery-reports"}

    others = reporting()
    worker, producer = rig.worker(settings, "normal"), ss.Producer(settings)
    worker.handles(topic)(partial(passed_on, producer, out))
    rig.send(topic, ["n"])
    rig.begin(topic)
    with worker:
        eventually(lambda: rig.ends(out) == {0: 1}, "the output")
        (ours,) = reporting() - others

    def gone() -> bool:
        # Each time anew: a thread that was just ending may still have held the last of them at the first.
        gc.collect()
        return not ours.is_alive()

    del worker, producer
    eventually(gone, "the thread gone")


def test_what_a_client_has_to_say_goes_through_logging_once_and_not_to_stderr(
    rig: Rig, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    nobody = {"bootstrap.servers": "127.0.0.1:1", "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
    producer = ss.Producer(rig.settings({"in": {}}, kafka=nobody))

    producer.produce("in", "n")
    with caplog.at_level("INFO"):
        eventually(lambda: producer.poll(0.05) or "client_log" in caplog.text, "the client's own line")
        assert producer.flush(1.0) == 1

    lines = [line for line in caplog.messages if line.startswith("client_log") and "kind=FAIL" in line]
    assert len(lines) == 1
    assert "lane=normal" in lines[0]
    assert "Connection refused" in lines[0]
    # Plain clients of other tests may write what they like meanwhile; ours is known by its address.
    assert "127.0.0.1:1/" not in capfd.readouterr().err
