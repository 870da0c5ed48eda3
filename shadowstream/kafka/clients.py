"""What each client of a lane is configured with, beside what the user says.

Trap: librdkafka warns about every property that belongs to the other kind of client, so each kind gets its own.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RawProducer

from shadowstream.errors import BrokerError, SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shadowstream.config import LaneSettings

__all__ = [
    "FETCHING",
    "QUIET",
    "Throttle",
    "consumer_of",
    "explained",
    "logger_of",
    "member_properties",
    "missing_topics",
    "producer_of",
    "producer_properties",
    "spoken",
    "transactional_properties",
    "usable",
]

Client = TypeVar("Client", RawConsumer, RawProducer)

CONSUMER_ONLY = frozenset({
    "group.id", "group.instance.id", "group.protocol", "group.remote.assignor", "partition.assignment.strategy",
    "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "auto.offset.reset", "isolation.level",
    "fetch.wait.max.ms", "fetch.min.bytes", "fetch.max.bytes", "fetch.message.max.bytes", "max.partition.fetch.bytes",
    "fetch.error.backoff.ms", "fetch.queue.backoff.ms", "queued.min.messages", "queued.max.messages.kbytes",
    "enable.partition.eof", "check.crcs", "client.rack", "enable.auto.commit", "enable.auto.offset.store",
    "auto.commit.interval.ms", "allow.auto.create.topics",
})  # fmt: skip
PRODUCER_ONLY = frozenset({
    "acks", "request.required.acks", "enable.idempotence", "linger.ms", "queue.buffering.max.ms", "batch.size",
    "batch.num.messages", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "compression.type",
    "compression.codec", "compression.level", "message.timeout.ms", "delivery.timeout.ms", "request.timeout.ms",
    "retries", "message.send.max.retries", "partitioner", "sticky.partitioning.linger.ms", "transactional.id",
    "transaction.timeout.ms", "enable.gapless.guarantee", "delivery.report.only.error",
})  # fmt: skip
OF_TRANSACTIONS = frozenset({"transactional.id", "transaction.timeout.ms"})
TRANSACTION_TIMEOUT_MS = 15_000
"""How long what a killed process left open can hold up readers: a transaction of ours lasts for moments."""

MEMBER_POLLS_MS = 45_000
"""As long as a session, by the client's own default; shorter than that it must not be."""

CURES = MappingProxyType(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic, or correct its name under `topics:`",
        KafkaError._ALL_BROKERS_DOWN: "check `kafka: bootstrap.servers` and that the brokers run",  # noqa: SLF001
        KafkaError._TRANSPORT: "check `kafka: bootstrap.servers` and that the brokers run",  # noqa: SLF001
        KafkaError._RESOLVE: "check the host names in `kafka: bootstrap.servers`",  # noqa: SLF001
        KafkaError._AUTHENTICATION: "check the `sasl.*` properties under `kafka:`",  # noqa: SLF001
        KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this service the right to the topic",
        KafkaError.GROUP_AUTHORIZATION_FAILED: "grant this service the right to both groups, normal and shadow",
        KafkaError._FATAL: "start it again; if another process has the same `group.instance.id`, give each its own",  # noqa: SLF001
        KafkaError._AUTO_OFFSET_RESET: "set `auto.offset.reset` under `kafka:`, or reset the group's offsets",  # noqa: SLF001
    }
)


FETCHING: Final[Mapping[str, int]] = MappingProxyType(
    {
        # A fetcher whose queue was full looks again after this long. The client's own 1000 stands still for a second.
        "fetch.queue.backoff.ms": 10,
        # What is read ahead in a backlog. The client's own 100 000 and 64 MiB take 80 MiB more of small messages, and
        # nobody is faster by them: 20 000 are some 30 ms of work.
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 32_768,
    }
)
"""How our consumers fetch, unless the user says otherwise."""


def consumer_properties(lane: LaneSettings) -> dict[str, Any]:
    """Return the lane's consumer properties; commits are the engine's business."""
    ours = {"enable.auto.commit": False, "enable.auto.offset.store": False, "enable.partition.eof": False}
    # A topic made after the start, or given more partitions, should be found in seconds and not in five minutes.
    defaults = {"auto.offset.reset": "earliest", "topic.metadata.refresh.interval.ms": 10_000, **FETCHING}
    return defaults | _without(lane.kafka, PRODUCER_ONLY) | ours


def member_properties(lane: LaneSettings) -> dict[str, Any]:
    """Return what a worker's consumer has over the lane's others: it polls whatever handlers do.

    A client that has lost the brokers' word gives up no partition that it is to give up, and nobody else gets it, until
    the brokers put it out of the group: after five minutes, were it the client's own interval.
    """
    session_ms = float(lane.kafka.get("session.timeout.ms") or 0)
    longest_ms = max(MEMBER_POLLS_MS, 2000 * lane.worker.revoke_s, session_ms)
    return {"max.poll.interval.ms": int(lane.kafka.get("max.poll.interval.ms") or longest_ms)}


def producer_properties(lane: LaneSettings) -> dict[str, Any]:
    """Return the lane's producer properties: idempotent and acknowledged by all, unless the user says otherwise."""
    defaults = {"enable.idempotence": True, "linger.ms": 5, "queue.buffering.max.messages": 100_000}
    return defaults | _without(lane.kafka, CONSUMER_ONLY | OF_TRANSACTIONS)


def transactional_properties(lane: LaneSettings) -> dict[str, Any]:
    """Return what the producer of the lane's transactions has over the lane's others.

    The lane ends its transactional id: what fences one lane never fences the other. A member that has no name of its
    own gets one by chance: two processes under one id would fence each other for ever.
    """
    who = lane.kafka.get("group.instance.id") or uuid4().hex[:8]
    first = lane.kafka.get("transactional.id") or lane.kafka["group.id"]
    timeout_ms = lane.kafka.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
    # A message may not take longer than its transaction; the client sees to it where nothing else is said.
    return {
        "transactional.id": f"{first}.{who}.{lane.lane}",
        "transaction.timeout.ms": timeout_ms,
        "message.timeout.ms": timeout_ms,
    }


QUIET: Final[Mapping[str, Any]] = MappingProxyType({"error_cb": lambda _: None, "log_level": 0})
"""For a client whose failures are told by whoever asks it."""


def consumer_of(lane: LaneSettings, **more: Any) -> RawConsumer:  # noqa: ANN401 - properties are what they are
    """Make a consumer of one lane; ``more`` are properties over its own.

    Raises:
        SetupError: the client refuses a property.
    """
    return _made(RawConsumer, lane, consumer_properties(lane) | spoken(lane.lane) | more)


def producer_of(lane: LaneSettings, **more: Any) -> RawProducer:  # noqa: ANN401 - properties are what they are
    """Make a producer of one lane; ``more`` are properties over its own.

    Raises:
        SetupError: the client refuses a property.
    """
    return _made(RawProducer, lane, producer_properties(lane) | spoken(lane.lane) | more)


def usable(lane: LaneSettings) -> None:
    """See whether the client takes the lane's properties; nobody is connected to.

    Raises:
        SetupError: it refuses one.
    """
    producer_of(lane, **QUIET)
    if lane.transactional:
        producer_of(lane, **transactional_properties(lane), **QUIET)
    consumer_of(lane, **QUIET).close()


def _made(kind: Callable[[dict[str, Any]], Client], lane: LaneSettings, properties: dict[str, Any]) -> Client:
    try:
        return kind(properties)
    except (KafkaException, TypeError, ValueError) as error:
        what = error.args[0].str() if isinstance(error, KafkaException) else error
        section = "kafka" if lane.lane is Lane.NORMAL else "shadow.kafka (or kafka, which it falls back to)"
        raise SetupError(
            f"the Kafka client of the {lane.lane} lane cannot be made: {what}; correct it under {section}:"
            " names and values are librdkafka's"
        ) from error


def _without(properties: Mapping[str, Any], foreign: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in foreign}


def explained(error: KafkaError) -> str:
    """Return what a client's error says, and the cure where we know it."""
    cure = CURES.get(error.code())
    return f"{error.str()} ({error.name()})" + (f"; {cure}" if cure else "")


def missing_topics(client: RawConsumer | RawProducer, topics: Iterable[str], timeout_s: float) -> list[str]:
    """Return the topics that the cluster does not have.

    Raises:
        BrokerError: no broker answered within ``timeout_s`` seconds.
    """
    try:
        known = client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise BrokerError(f"no broker answered within {timeout_s:g} s: {explained(error.args[0])}") from error
    return sorted(topic for topic in topics if topic not in known or known[topic].error is not None)


class Throttle:
    """Lets one log line of a kind through every ten seconds."""

    def __init__(self, log: Callable[[str], None], every_s: float = 10.0) -> None:
        self._log = log
        self._every_s = every_s
        self._next: defaultdict[str, float] = defaultdict(float)

    def say(self, kind: str, line: str) -> None:
        """Log the line unless one of its kind was logged a moment ago."""
        if self.due(kind):
            self._log(line)

    def due(self, kind: str) -> bool:
        """Tell whether a line of this kind may be logged now; the next one may ten seconds later."""
        now = time.monotonic()
        if now < self._next[kind]:
            return False
        self._next[kind] = now + self._every_s
        return True


class ClientLog:
    """What the C library would write to stderr by itself: a line of each kind every ten seconds, with the lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._logger = logger_of("client")
        self._throttle = Throttle(self._logger.info)

    def log(self, level: int, _format: str, kind: str, client: str, text: str) -> None:
        """Take one line; the client calls it as it would a logger's own."""
        if self._throttle.due(kind):
            self._logger.log(level, "client_log lane=%s client=%s kind=%s text=%r", self._lane, client, kind, text)


def spoken(lane: Lane) -> dict[str, Any]:
    """Return the properties by which a client speaks through our loggers: its errors with their cure, and its log."""
    throttle = Throttle(logger_of("client").warning)

    def failed(error: KafkaError) -> None:
        throttle.say(error.name(), f"client_error lane={lane} error={explained(error)!r}")

    return {"error_cb": failed, "logger": ClientLog(lane)}


def logger_of(room: str) -> logging.Logger:
    """Return the logger of one of this room's modules."""
    return logging.getLogger(f"shadowstream.kafka.{room}")
