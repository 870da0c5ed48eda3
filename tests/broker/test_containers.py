"""The ground itself: what the other tests of this folder stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis as redis_client
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from containers.daemon import connected
from containers.owned import LOG_TAIL_LINES, OWNER, telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.kafka import KafkaContainer
    from containers.redis import RedisContainer
    from tests.broker.conftest import Topics

PATIENCE_S = 20.0

ABANDONED = """
import os, signal
from containers.redis import RedisContainer
server = RedisContainer().start()
print(server.get_container_id(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

ENDED_WITHOUT_STOPPING = """
from containers.redis import RedisContainer
print(RedisContainer().start().get_container_id(), flush=True)
"""


def written(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, headers=[("x-shadow", b"1")])
    assert producer.flush(PATIENCE_S) == 0


def read(bootstrap: str, topic: str, group: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got: list[Message] = []
    until = time.monotonic() + PATIENCE_S
    try:
        while len(got) < count and time.monotonic() < until:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                got.append(message)
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return got


def values(messages: list[Message]) -> list[bytes | None]:
    return [message.value() for message in messages]


def test_a_message_and_its_header_come_back_from_the_broker(
    kafka: KafkaContainer, topics: Topics, unique: Callable[[str], str]
) -> None:
    topic = topics("in")["in"]

    written(kafka.bootstrap, topic, b"one")

    [back] = read(kafka.bootstrap, topic, unique("group"), 1)
    assert (back.value(), back.headers()) == (b"one", [("x-shadow", b"1")])


def test_every_topic_asked_for_has_a_leader_for_each_partition(kafka: KafkaContainer, topics: Topics) -> None:
    made = topics("a", "b", partitions=3)

    assert [kafka.led_partitions(made[name]) for name in ("a", "b")] == [3, 3]


def test_a_topic_that_nobody_created_is_an_error(kafka: KafkaContainer, unique: Callable[[str], str]) -> None:
    told: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "topic.metadata.propagation.max.ms": 0})

    producer.produce(unique("nowhere"), b"lost", on_delivery=lambda error, _message: told.append(error))
    producer.flush(PATIENCE_S)

    assert [error and error.code() for error in told] == [KafkaError.UNKNOWN_TOPIC_OR_PART]


def test_a_killed_broker_comes_back_on_its_port_with_its_log_and_its_offsets(own_kafka: KafkaContainer) -> None:
    own_kafka.create_topics({"kept": 1})
    before = own_kafka.bootstrap
    written(before, "kept", b"one")
    assert values(read(before, "kept", "group", 1)) == [b"one"]

    own_kafka.kill()
    assert not own_kafka.answers()
    own_kafka.restart()
    written(before, "kept", b"two")

    assert own_kafka.bootstrap == before
    assert values(read(before, "kept", "group", 1)) == [b"two"]
    assert values(read(before, "kept", "afresh", 2)) == [b"one", b"two"]


def test_a_paused_broker_answers_nobody_until_it_goes_on_or_is_restarted(own_kafka: KafkaContainer) -> None:
    own_kafka.pause()
    with pytest.raises(KafkaException):
        own_kafka.admin.list_topics(timeout=0.5)

    own_kafka.unpause()
    assert own_kafka.answers()

    own_kafka.pause()
    own_kafka.restart()
    assert own_kafka.answers()


def test_redis_keeps_what_is_written_to_it(redis: RedisContainer, redis_url: str, unique: Callable[[str], str]) -> None:
    key = unique("key")
    with redis_client.Redis.from_url(redis_url) as client:
        client.set(key, "kept")

        assert client.get(key) == b"kept"
    assert redis.answers()


def test_of_a_servers_log_what_it_says_of_errors_is_told_and_its_end() -> None:
    log = ["INFO begun", "ERROR port taken", *(f"INFO closing {each}" for each in range(LOG_TAIL_LINES))]
    assert telling("\n".join(log)).splitlines() == log[1:]


def test_a_container_ends_with_the_process_that_forgot_to_stop_it() -> None:
    left = started_by(ENDED_WITHOUT_STOPPING)

    assert left not in owned()


def test_a_container_left_by_a_killed_process_is_removed_by_the_next_start() -> None:
    left = started_by(ABANDONED)
    assert left in owned()

    next_one = started_by(ENDED_WITHOUT_STOPPING)

    assert not {left, next_one} & owned()


def started_by(script: str) -> str:
    """Run a script in a process of its own and give the id of the container that it started."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip()


def owned() -> set[str]:
    """Give the ids of all containers with an owner."""
    with connected() as daemon:
        return {found.id for found in daemon.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)}
