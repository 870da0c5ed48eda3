"""Exactly once on a real broker: processes that die, members that come and go, outputs that cannot be delivered."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

import shadowstream as ss
from containers.kafka import KafkaContainer
from shadowstream.events import Lagging
from shadowstream.lane import Lane
from tests.broker.exact import Member, reason_of, seen
from tests.broker.rig import MARKED, QUICK, Rig, eventually, text_of
from tests.broker.service import Service, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "kip-848": {"group.protocol": "consumer", "session.timeout.ms": None, "heartbeat.interval.ms": None},
}
SOON = {
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "500",
}
"""What members of a KIP-848 group cannot say themselves: when they are put out, how soon they hear of changes."""
EXACT = {"transactional": True, "retries": 0}


@pytest.fixture(scope="module")
def reachable() -> Iterator[KafkaContainer]:
    """A broker that reaches itself at its address, without which it ends no transaction."""
    with KafkaContainer(host_network=True, settings=SOON) as broker:
        yield broker


@pytest.fixture
def rig(reachable: KafkaContainer, unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """One test's place on that broker."""
    mine = Rig(reachable, unique, tmp_path)
    yield mine
    mine.close()


def passing_on(rig: Rig, settings: ss.Settings, topic: str, out: str, lanes: str = "both") -> ss.Worker:
    """Return a worker that produces what it reads; what begins with "poison" it cannot handle."""
    worker, producer = rig.worker(settings, lanes), ss.Producer(settings)

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        producer.produce(out, message.value(), message.key())
        if text_of(message).startswith("poison"):
            raise ValueError("poison")

    return worker


def stands(rig: Rig, lane: Lane, topic: str) -> int:
    """Return how far a lane has come, all partitions together."""
    return sum(rig.committed(rig.group_of(lane), topic).values())


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("at", ["before the offsets", "before the commit", "after the commit"])
def test_a_process_killed_in_the_midst_of_a_transaction_gives_each_output_once(rig: Rig, at: str, lane: Lane) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    rig.send(topic, range(20), MARKED if lane is Lane.SHADOW else None)
    document = rig.document({topic: EXACT}, kafka={"group.instance.id": "one"})
    with Member(rig, document, topic, out, lane, at, str(int(signal.SIGKILL))) as first:
        first.met()
        first.process.wait()
    assert sorted(seen(rig, out, committed=False), key=int) == [str(number) for number in range(20)], "all were out"
    with Member(rig, document, topic, out, lane, "never", "0"):
        eventually(lambda: stands(rig, lane, topic) == 20, "the successor at the end")
    assert seen(rig, out) == [str(number) for number in range(20)]
    repeated = 20 if at == "after the commit" else 40
    assert len(seen(rig, out, committed=False)) == repeated, "and a reader of uncommitted messages sees the dead ones"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_that_was_replaced_while_it_stood_still_commits_nothing(rig: Rig, protocol: str) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    rig.send(topic, range(20))
    kafka = {**QUICK, **PROTOCOLS[protocol], "transaction.timeout.ms": 60_000}
    settings = rig.settings({topic: EXACT}, kafka=kafka)
    document = rig.document({topic: EXACT}, kafka=kafka)
    with Member(rig, document, topic, out, "normal", "before the offsets", str(int(signal.SIGSTOP))) as zombie:
        zombie.met()
        with passing_on(rig, settings, topic, out, "normal"):
            eventually(lambda: stands(rig, Lane.NORMAL, topic) == 20, "the partition with its new owner, and handled")
            zombie.process.send_signal(signal.SIGCONT)
            rig.send(topic, range(20, 30))
            eventually(lambda: "commit_failed" in zombie.log(), "the old owner refused")
            eventually(lambda: stands(rig, Lane.NORMAL, topic) == 30, "all handled")
            zombie.process.send_signal(signal.SIGTERM)
            zombie.process.wait()
    assert seen(rig, out) == [str(number) for number in range(30)]


def test_lanes_that_are_killed_again_and_again_give_each_output_once(rig: Rig) -> None:
    topic, out = rig.topics("in", "out", partitions=2)
    rig.begin(topic)
    app = f"""
@worker.handles({topic!r})
def handler(message):
    producer.produce({out!r}, message.lane + message.value().decode(), message.key())
"""
    exact = {**EXACT, "order": "key", "concurrency": 4}
    kafka = {"group.instance.id": "one"}

    def first_out(value: str) -> None:
        eventually(lambda: value in seen(rig, out), f"{value} out")

    with Service(rig, app, {topic: exact}, kafka=kafka, worker={"commit_every": "20ms"}) as service:
        sent = 0
        for _ in range(3):
            for lane, headers in ((Lane.NORMAL, None), (Lane.SHADOW, MARKED)):
                for number in range(sent, sent + 300):
                    given: Any = headers
                    rig.producer.produce(topic, str(number), str(number % 7), headers=given)
                    rig.producer.poll(0)
                assert rig.producer.flush(30) == 0
                first_out(f"{lane}{sent}")
                pid = service.pid(lane)
                assert pid is not None
                kill(pid)
                service.restarted(lane, pid)
            sent += 300
        wanted = {f"{lane}{number}": 1 for lane in Lane for number in range(sent)}
        eventually(lambda: len(seen(rig, out)) >= len(wanted), "all outputs committed")
        assert Counter(seen(rig, out)) == wanted


def test_a_poison_message_and_its_offset_are_committed_together_in_each_lane(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    for headers in (None, MARKED):
        rig.send(topic, ["a", "poison", "b"], headers)
    with passing_on(rig, rig.settings({topic: EXACT}), topic, out):
        eventually(lambda: rig.both_caught_up(topic), "both lanes past it")
    assert Counter(seen(rig, out)) == {"a": 2, "b": 2}
    assert Counter(seen(rig, out, committed=False)) == {"a": 2, "b": 2}, "of a failed call nothing is ever out"
    assert [seen(rig, f"{topic}{side}") for side in (".dlq", ".shadow.dlq")] == [["poison"]] * 2
    for lane in Lane:
        assert rig.heard.outcomes(lane) == {"handled": 2, "failed": 1}


def test_an_output_that_the_broker_refuses_dead_letters_its_source_and_no_other(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    small = f"{out}.small"
    rig.kafka.create_topics({small: 1}, {"max.message.bytes": "1000"})
    rig.begin(topic)
    settings = rig.settings({topic: EXACT})
    worker, producer = rig.worker(settings, "normal"), ss.Producer(settings)

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        size = 5000 if text_of(message) == "large" else 10
        producer.produce(small, f"{text_of(message)}{'.' * size}")

    rig.send(topic, ["a", "b", "large", "c"])
    with worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "past it")
    assert [value.rstrip(".") for value in seen(rig, small)] == ["a", "b", "c"]
    assert seen(rig, f"{topic}.dlq") == ["large"]
    assert b"was not delivered" in reason_of(rig, f"{topic}.dlq")
    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 3, "failed": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_that_join_and_leave_give_each_output_once(rig: Rig, protocol: str) -> None:
    topic, out = rig.topics("in", "out", partitions=4)
    rig.begin(topic)
    exact = {**EXACT, "concurrency": 2}
    settings = rig.settings({topic: exact}, kafka=PROTOCOLS[protocol], worker={"commit_every": "50ms"})
    sent = 0

    def more() -> None:
        nonlocal sent
        for number in range(sent, sent + 32):
            given: Any = [*MARKED] if number % 2 else None
            rig.producer.produce(topic, str(number), headers=given, partition=number // 2 % 4)
        assert rig.producer.flush(30) == 0
        sent += 32

    def gains(lane: Lane) -> int:
        return len([each for each in rig.heard.rebalances(lane) if each.change == "assigned" and each.partitions])

    def joined(before: dict[Lane, int]) -> bool:
        more()
        return all(gains(lane) > before[lane] for lane in Lane)

    def member() -> ss.Worker:
        return passing_on(rig, settings, topic, out)

    with member():
        eventually(lambda: joined(dict.fromkeys(Lane, 0)), "the first at work")
        before = {lane: gains(lane) for lane in Lane}
        with member():
            eventually(lambda: joined(before), "the second at work")
            before = {lane: gains(lane) for lane in Lane}
        eventually(lambda: joined(before), "the first with all of it again")
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
    assert Counter(seen(rig, out)) == {str(number): 1 for number in range(sent)}
    for lane in Lane:
        assert rig.heard.outcomes(lane) == {"handled": sent // 2}


def test_lanes_of_one_instance_do_not_fence_each_other(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    settings = rig.settings({topic: EXACT}, kafka={"group.instance.id": "one"})
    with passing_on(rig, settings, topic, out) as worker:
        for number in range(10):
            for headers in (None, MARKED):
                rig.send(topic, [number], headers)
            eventually(lambda: rig.both_caught_up(topic), "a transaction of each lane")
        assert all(thread.is_alive() for _, thread in worker._running.values()), "neither lane was stopped"
    assert seen(rig, out) == [str(number) for number in range(10) for _ in Lane]


def test_a_topic_that_is_written_in_transactions_never_stalls_a_transactional_reader(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    writer = Producer({"bootstrap.servers": rig.bootstrap, "transactional.id": rig.group})
    writer.init_transactions(30)
    for ends in (writer.commit_transaction, writer.abort_transaction, writer.commit_transaction):
        writer.begin_transaction()
        for number in range(4):
            given: Any = [*MARKED] if number % 2 else None
            writer.produce(topic, f"{ends.__name__}-{number}", headers=given)
        writer.flush(30)
        ends(30)
    # Four messages and a marker, three times; the last marker is nobody's to commit.
    with passing_on(rig, rig.settings({topic: EXACT}), topic, out):
        eventually(lambda: all(rig.committed(rig.group_of(lane), topic) == {0: 14} for lane in Lane), "both at the end")
        writer.begin_transaction()
        writer.produce(topic, "later")
        writer.commit_transaction(30)
        eventually(lambda: rig.committed(rig.group, topic) == {0: 16}, "past the marker")
    committed = [f"commit_transaction-{number}" for number in range(4)]
    assert Counter(seen(rig, out)) == Counter([*committed, *committed, "later"])
    assert max(fact.messages for fact in rig.heard.events if isinstance(fact, Lagging)) <= 15


def test_handlers_that_hang_hold_up_neither_the_others_nor_readers_nor_the_end(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.begin(topic)
    exact = {**EXACT, "order": "none", "concurrency": 2}
    kafka = {"transaction.timeout.ms": 2000}
    settings = rig.settings({topic: exact}, kafka=kafka, worker={"drain": "200ms"})
    worker, producer = rig.worker(settings, "normal"), ss.Producer(settings)
    released, stuck = threading.Event(), threading.Event()

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        producer.produce(out, message.value())
        if text_of(message) == "hangs":
            stuck.set()
            released.wait()

    rig.send(topic, ["a", "hangs", "b"])
    worker.start()
    eventually(lambda: stuck.is_set() and seen(rig, out) == ["a", "b"], "the others out")
    cursor, _ = worker._running[Lane.NORMAL]
    rounds = 0

    def longer_than_a_transaction_may_last() -> bool:
        nonlocal rounds
        rounds += 1
        rig.send(topic, [f"c{rounds}"])
        return rounds > 30

    eventually(longer_than_a_transaction_may_last, "time to pass")
    eventually(lambda: f"c{rounds}" in seen(rig, out), "and what came later")
    worker.stop()
    released.set()
    assert cursor.hung
    assert rig.committed(rig.group, topic) == {0: 1}
    with passing_on(rig, settings, topic, out, "normal"):
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "a successor at the end")
    assert Counter(seen(rig, out)) == {"a": 1, "b": 1, "hangs": 1, **{f"c{each}": 1 for each in range(1, rounds + 1)}}


def test_a_broker_that_is_started_again_in_the_midst_of_transactions_costs_no_output_and_no_lane(
    unique: Callable[[str], str], tmp_path: Path
) -> None:
    with KafkaContainer(host_network=True, settings=SOON) as broker:
        rig = Rig(broker, unique, tmp_path)
        topic, out = rig.topics("in", "out", partitions=2)
        rig.begin(topic)
        settings = rig.settings({topic: EXACT}, kafka={"session.timeout.ms": 45_000}, worker={"commit_every": "20ms"})
        # A producer that is not idempotent would send some of its messages twice.
        source = Producer({"bootstrap.servers": rig.bootstrap, "enable.idempotence": True, "linger.ms": 20})

        def come_to(number: int) -> None:
            eventually(lambda: rig.heard.outcomes(Lane.NORMAL).get("handled", 0) > number, f"more than {number} out")

        with passing_on(rig, settings, topic, out, "normal") as worker:
            for first in (0, 500, 1000):
                for number in range(first, first + 500):
                    source.produce(topic, str(number), partition=number % 2)
                    source.poll(0)
                come_to(first)
                broker.restart()
                assert source.flush(30) == 0
            come_to(1499)
            assert all(thread.is_alive() for _, thread in worker._running.values())
        assert Counter(seen(rig, out)) == {str(number): 1 for number in range(1500)}
        rig.close()
