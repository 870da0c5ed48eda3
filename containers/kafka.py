"""One real Kafka broker for tests and benchmarks: KRaft, one node, gone with the process that started it.

The log lies in the container's own layer, not in tmpfs: a killed broker that is started again must still have it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import NewTopic

from containers.host import ContainerGroundError
from containers.images import ensure_kafka_image
from containers.owned import LOOPBACK, OwnedContainer, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
CLIENT_PORT = 9092
TOPIC_TIMEOUT_S = 15.0


class KafkaContainer(OwnedContainer):
    """A started broker that clients reach at `bootstrap`.

    `host_network` leaves out Docker's port proxy, which costs a benchmark a copy of each byte; Linux only.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        auto_create_topics: bool = False,
        host_network: bool = False,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a broker; `settings` are broker properties by their own names, and win over those for tests."""
        super().__init__(image or ensure_kafka_image(), port=CLIENT_PORT, host_network=host_network)
        properties = {
            **node(self.port, self.inner_port, free_port(), free_port()),
            **SMALL,
            "auto.create.topics.enable": str(auto_create_topics).lower(),
            **(settings or {}),
        }
        self.with_envs(CLUSTER_ID=CLUSTER_ID, KAFKA_HEAP_OPTS=f"-Xms{heap_mb}m -Xmx{heap_mb}m")
        self.with_envs(**{variable(name): value for name, value in properties.items()})
        self._admin: AdminClient | None = None

    @property
    def bootstrap(self) -> str:
        """The address for `bootstrap.servers`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def admin(self) -> AdminClient:
        """An admin client of this broker, kept as long as the broker: one collected early fails what it was asked."""
        if self._admin is None:
            self._admin = AdminClient(
                {
                    "bootstrap.servers": self.bootstrap,
                    "reconnect.backoff.ms": 50,
                    "reconnect.backoff.max.ms": 200,
                    # Refused connections are expected while a broker starts; nobody wants to read them.
                    "log_level": 0,
                }
            )
        return self._admin

    def answers(self) -> bool:
        """Say whether the broker answers a real client with itself in the list."""
        with contextlib.suppress(KafkaException):
            return bool(self.admin.list_topics(timeout=1).brokers)
        return False

    def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Create topics, name to number of partitions, and return once every partition can be written to."""
        new = [NewTopic(name, partitions, 1, config=dict(config or {})) for name, partitions in topics.items()]
        for created in self.admin.create_topics(new).values():
            created.result(timeout=TOPIC_TIMEOUT_S)
        until = time.monotonic() + TOPIC_TIMEOUT_S
        while missing := [name for name, partitions in topics.items() if self.led_partitions(name) < partitions]:
            if time.monotonic() > until:
                raise ContainerGroundError(f"no leader after {TOPIC_TIMEOUT_S:.0f} s for topics {missing}")
            time.sleep(0.02)

    def led_partitions(self, topic: str) -> int:
        """Count the partitions of a topic whose leader answers for them.

        The metadata name a leader before it knows of it; only its own answer shows that it can be written to.
        """
        found = self.admin.list_topics(timeout=TOPIC_TIMEOUT_S).topics.get(topic)
        places = [] if found is None else [TopicPartition(topic, partition) for partition in found.partitions]
        if not places:
            return 0
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call] # the client left its types out
        ends = self.admin.list_offsets(dict.fromkeys(places, latest), request_timeout=TOPIC_TIMEOUT_S)
        return sum(answer.exception(TOPIC_TIMEOUT_S) is None for answer in ends.values())


SMALL = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "min.insync.replicas": "1",
    "num.partitions": "1",
    # A killed broker may register again only when its old session is over: 9 s of each restart, were it the default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def node(port: int, inner_port: int, controller_port: int, own_port: int) -> dict[str, str]:
    """Give the properties of one node that is broker and controller, advertised on this machine's loopback only.

    The broker writes the markers of transactions to itself, and the clients' port does not lead into the container.
    """
    inside = LOOPBACK if port == inner_port else ""
    own = f"OWN://{LOOPBACK}:{own_port}"
    return {
        "node.id": "1",
        "process.roles": "broker,controller",
        "listeners": f"PLAINTEXT://{inside}:{inner_port},{own},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},{own}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OWN:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "OWN",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        # A folder of the image's own volume would be a volume to clean up; this one is a plain folder in both images.
        "log.dirs": "/tmp/kafka-logs",  # noqa: S108 - inside the container
    }


def variable(property_name: str) -> str:
    """Spell a broker property as the variable that both images read."""
    spelled = property_name.replace("_", "__").replace("-", "___").replace(".", "_")
    return f"KAFKA_{spelled.upper()}"
