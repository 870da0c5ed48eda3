"""What handlers produce, and offsets that have gaps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

import shadowstream as ss
from containers.kafka import KafkaContainer
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, Rig, eventually, headers_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from confluent_kafka import KafkaError

pytest_plugins = ["tests.broker.rig"]


def test_an_undelivered_output_keeps_its_source_uncommitted_until_it_is_delivered(rig: Rig) -> None:
    topic, beside = rig.topics("in", "beside")
    later = f"{topic}.later"
    rig.begin(topic, beside)
    settings = rig.settings({topic: {}, beside: {}})
    worker, producer = rig.worker(settings), ss.Producer(settings)
    handled: list[tuple[Lane, str]] = []

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        producer.produce(later, message.value(), message.key())
        handled.append((message.lane, text_of(message)))

    worker.handles(beside)(lambda _: None)
    for headers in (None, MARKED):
        rig.send(topic, range(5), headers)

    with worker:
        eventually(lambda: len(handled) == 10, "all handled")
        for headers in (None, MARKED):
            rig.send(beside, ["beside"], headers)
        eventually(lambda: all(rig.caught_up(lane, beside) for lane in Lane), "a commit of something handled later")
        standing = [rig.committed(rig.group_of(lane), topic) for lane in Lane]
        counted = [rig.heard.outcomes(lane, topic) for lane in Lane]
        rig.kafka.create_topics({later: 1})
        eventually(lambda: rig.both_caught_up(topic), "the commit after the delivery")

    # The shadow cursor has stepped over the five normal messages before its own.
    assert standing == [{0: 0}, {0: 5}]
    assert counted == [{}, {}], "nobody knows yet how they end"
    assert [rig.heard.outcomes(lane, topic) for lane in Lane] == [{"handled": 5}] * 2
    assert sorted(handled) == sorted((lane, str(number)) for lane in Lane for number in range(5))
    assert sorted(rig.values(later)) == sorted([str(number) for number in range(5)] * 2)


def test_outputs_that_cannot_be_delivered_dead_letter_their_source_once(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings({topic: {}}, kafka={"topic.metadata.propagation.max.ms": 300, "message.timeout.ms": 3000})
    worker, producer = rig.worker(settings), ss.Producer(settings)
    told: list[KafkaError | None] = []

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        for _ in range(2):
            producer.produce(f"{topic}.nowhere", message.value(), on_delivery=lambda error, _: told.append(error))

    rig.send(topic, ["n0"])
    rig.send(topic, ["s0"], MARKED)
    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes past the message")

    assert len(told) == 4
    # Not `None not in told`: to compare an error of the client with None by `==` leaves an exception pending.
    assert all(error is not None for error in told)
    assert (rig.values(f"{topic}.dlq"), rig.values(f"{topic}.shadow.dlq")) == (["n0"], ["s0"])
    assert [rig.heard.outcomes(lane, topic) for lane in Lane] == [{"failed": 1}] * 2, "and not handled besides"
    why = dict(headers_of(rig.read(f"{topic}.dlq")[0]))["kafka_dlt-exception-message"] or b""
    assert b"was not delivered" in why


@pytest.fixture
def reachable_broker(unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """Give a place on a broker that reaches itself at its address, without which it ends no transaction."""
    with KafkaContainer(host_network=True) as broker:
        rig = Rig(broker, unique, tmp_path)
        yield rig
        rig.close()


def test_gaps_in_the_offsets_never_stall_a_commit(reachable_broker: Rig) -> None:
    rig = reachable_broker
    topic = rig.topic()
    rig.begin(topic)
    producer = Producer({"bootstrap.servers": rig.bootstrap, "transactional.id": rig.group})
    producer.init_transactions(30)
    for ends in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for number in range(4):
            headers = [*MARKED] if number % 2 else None
            producer.produce(topic, f"{ends.__name__}-{number}", headers=headers)  # type: ignore[arg-type] # as it reads
        producer.flush(30)
        ends(30)
    worker = rig.worker(rig.settings({topic: {}}))
    handled: list[tuple[str, str]] = []
    counting = threading.Lock()

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        with counting:
            handled.append((message.lane, text_of(message)))

    # Four messages and a marker, three times; the last marker is nobody's to commit.
    with worker:
        eventually(lambda: all(rig.committed(rig.group_of(lane), topic) == {0: 14} for lane in Lane), "both at the end")

    for lane, first in ((Lane.NORMAL, 0), (Lane.SHADOW, 1)):
        values = [f"commit_transaction-{number}" for number in (first, first + 2)]
        assert [value for each, value in handled if each == lane] == values * 2
