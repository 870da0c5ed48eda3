"""Three real brokers, each of them a controller too, whose clients come through a proxy.

Each broker listens three times: for clients (reached and advertised through its link alone), for the other brokers and
for onlookers (direct, so that a broken link hides nothing from who judges), and as a controller.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, MemberAssignment, PartitionMetadata
from confluent_kafka.cimpl import NewTopic

from containers.cluster.links import Link, Toxiproxy
from containers.host import ContainerGroundError, step
from containers.images import ensure_kafka_image, ensure_toxiproxy_image
from containers.kafka import KafkaContainer
from containers.owned import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

BROKERS = 3
COPIES, IN_SYNC = 3, 2
ANSWER_S = 20.0
SETTLE_S = 90.0
SHUT_DOWN_S = 20
OFFSETS = "__consumer_offsets"
QUIET = {"log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500}

SAFE = {
    "default.replication.factor": str(COPIES),
    "min.insync.replicas": str(IN_SYNC),
    "unclean.leader.election.enable": "false",
    "offsets.topic.replication.factor": str(COPIES),
    "transaction.state.log.replication.factor": str(COPIES),
    "transaction.state.log.min.isr": str(IN_SYNC),
    "share.coordinator.state.topic.replication.factor": str(COPIES),
    "share.coordinator.state.topic.min.isr": str(IN_SYNC),
}
SWIFT = {
    # The defaults suit data centres; with these a fault of three seconds is one that everybody notices.
    "replica.lag.time.max.ms": "4000",
    "controller.quorum.election.timeout.ms": "1000",
    "controller.quorum.fetch.timeout.ms": "2000",
    "controller.quorum.election.backoff.max.ms": "500",
    "auto.leader.rebalance.enable": "true",
    "leader.imbalance.check.interval.seconds": "10",
    "group.min.session.timeout.ms": "3000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    "controlled.shutdown.enable": "true",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one broker listens."""

    client: int = field(default_factory=free_port)
    advertised: int = field(default_factory=free_port)
    direct: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)


class Broker(KafkaContainer):
    """One broker of the cluster; `bootstrap` is its direct listener, `link` is how clients reach it."""

    def __init__(self, number: int, ports: Sequence[Ports], settings: Mapping[str, str]) -> None:
        """Prepare the broker with this number, beginning at 1."""
        mine = ports[number - 1]
        placed = placing(number, ports)
        super().__init__(ensure_kafka_image(), host_network=True, heap_mb=384, settings={**placed, **settings})
        self.number = number
        self.port = mine.direct
        self.link: Link

    def shut_down(self) -> None:
        """Let the broker hand over what it leads and end by itself."""
        self.get_wrapped_container().stop(timeout=SHUT_DOWN_S)

    def answers(self) -> bool:
        """Say whether this very broker answers, and counts itself among the living."""
        said = self._said()
        return said is not None and self.number in said.brokers

    def knows(self, topics: Mapping[str, int]) -> bool:
        """Say whether this very broker has heard of these topics, and of all their partitions."""
        said = self._said()
        return said is not None and all_there(said, topics)

    def _said(self) -> ClusterMetadata | None:
        # A client of its own: an older one has learned the other brokers, and would ask them.
        asked = AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})
        with contextlib.suppress(KafkaException):
            return asked.list_topics(timeout=2)
        return None


def all_there(said: ClusterMetadata, topics: Mapping[str, int]) -> bool:
    """Say whether all these topics, name to number of partitions, are there with all their partitions."""
    return all(name in said.topics and len(said.topics[name].partitions) >= count for name, count in topics.items())


def placing(number: int, ports: Sequence[Ports]) -> dict[str, str]:
    """Give the properties that place one node among the others, on this machine's loopback only."""
    mine = ports[number - 1]
    voters = [f"{each}@{LOOPBACK}:{node.controller}" for each, node in enumerate(ports, 1)]
    listeners = {"CLIENT": mine.client, "DIRECT": mine.direct, "CONTROLLER": mine.controller}
    advertised = {"CLIENT": mine.advertised, "DIRECT": mine.direct}
    return {
        "node.id": str(number),
        "listeners": spelled(listeners),
        "advertised.listeners": spelled(advertised),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "inter.broker.listener.name": "DIRECT",
        "controller.quorum.voters": ",".join(voters),
    }


def spelled(listeners: Mapping[str, int]) -> str:
    """Spell listeners as a property does."""
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in listeners.items())


class KafkaCluster:
    """Three started brokers behind three links."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Prepare the cluster; `settings` are broker properties over those of this ground."""
        ensure_toxiproxy_image()
        self.ports = [Ports() for _ in range(BROKERS)]
        chosen = {**SAFE, **SWIFT, **(settings or {})}
        self.brokers = [Broker(number, self.ports, chosen) for number in range(1, BROKERS + 1)]
        self.proxy = Toxiproxy()
        self._admin: AdminClient | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, through the links."""
        return ",".join(f"{LOOPBACK}:{each.advertised}" for each in self.ports)

    @property
    def direct(self) -> str:
        """The address for onlookers, past the links."""
        return ",".join(f"{LOOPBACK}:{each.direct}" for each in self.ports)

    @property
    def admin(self) -> AdminClient:
        """An admin client past the links, kept as long as the cluster."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.direct, **QUIET})
        return self._admin

    def start(self) -> Self:
        """Start everything and return once every broker answers."""
        with step(f"starting {BROKERS} Kafka brokers behind a proxy"):
            self.proxy.start()
            for broker, ports in zip(self.brokers, self.ports, strict=True):
                broker.link = self.proxy.link(f"broker-{broker.number}", ports.advertised, ports.client)
            # None of them answers before two of them talk to each other.
            with ThreadPoolExecutor(BROKERS) as pool:
                for started in [pool.submit(broker.start) for broker in self.brokers]:
                    started.result()
        return self

    def stop(self) -> None:
        """Remove everything."""
        with ThreadPoolExecutor(BROKERS + 1) as pool:
            for stopped in [pool.submit(each.stop) for each in (*self.brokers, self.proxy)]:
                stopped.result()

    def __enter__(self) -> Self:
        """Start the cluster."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        self.stop()

    def broker(self, number: int) -> Broker:
        """Give one broker by its number."""
        return self.brokers[number - 1]

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics, name to number of partitions, with three copies, and return once all are in step.

        Every broker knows them by then, so that no client learns from one of them that there is no such topic.
        """
        new = [NewTopic(name, partitions, COPIES) for name, partitions in topics.items()]
        for created in self.admin.create_topics(new).values():
            created.result(timeout=ANSWER_S)
        until(lambda: all(broker.knows(topics) for broker in self.brokers), "all brokers know the topics", SETTLE_S)
        self.wait_in_step(topics)

    def wait_in_step(self, among: Mapping[str, int] | None = None) -> None:
        """Wait until every partition has a leader and all its copies are in step."""
        until(lambda: self.in_step(among or {}), "every partition in step", SETTLE_S)

    def in_step(self, among: Mapping[str, int]) -> bool:
        """Say whether every partition has all its copies in step, and these topics all their partitions."""
        with contextlib.suppress(KafkaException):
            said = self.admin.list_topics(timeout=2)
            return all_there(said, among) and all(
                place.leader > 0 and len(place.isrs) == len(place.replicas)
                for topic in said.topics.values()
                for place in topic.partitions.values()
            )
        return False

    def members(self, group: str) -> list[str]:
        """Say of each member of a group what it has been given; for people who look for what is stuck."""
        try:
            told = self.admin.describe_consumer_groups([group], request_timeout=3)[group].result(ANSWER_S)
        except KafkaException as error:
            return [str(error)]
        return [
            f"{each.client_id} {each.member_id}: {_given(each.assignment)}; wanted {_given(each.target_assignment)}"
            for each in told.members
        ]

    def coordinator(self, group: str) -> int | None:
        """Give the number of the broker that keeps this group's offsets; None while nobody says.

        It is who leads the group's partition of Kafka's own topic. The admin client could be asked, and ends the
        process when the answer is cut off: `Assertion eonce->refcnt > 0 failed` (librdkafka 2.16.0).
        """
        known = self._partitions(OFFSETS)
        return leading(known, partition_of(group, len(known))) if known else None

    def leader(self, topic: str, partition: int) -> int | None:
        """Give the number of the broker that leads this partition; None while there is none."""
        return leading(self._partitions(topic), partition)

    def _partitions(self, topic: str) -> Mapping[int, PartitionMetadata]:
        try:
            return self.admin.list_topics(topic, timeout=3).topics[topic].partitions
        except KafkaException:
            return {}


def leading(partitions: Mapping[int, PartitionMetadata], partition: int) -> int | None:
    """Return the number of the broker that leads a partition; None while there is none."""
    found = partitions.get(partition)
    return found.leader if found is not None and found.leader > 0 else None


def partition_of(group: str, partitions: int) -> int:
    """Return where a group's offsets are kept, as Kafka's GroupMetadataManager does: by Java's hash of its name."""
    value = 0
    for character in group:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return (value & 0x7FFFFFFF) % partitions


def _given(assignment: MemberAssignment | None) -> list[str]:
    places = [] if assignment is None else assignment.topic_partitions
    return sorted(f"{each.topic}[{each.partition}]" for each in places)


def until(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Wait until the condition holds; raise, naming it, when it never does."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise ContainerGroundError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.1)
