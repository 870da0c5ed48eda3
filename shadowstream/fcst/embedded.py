"""A broker inside this process: librdkafka's own mock cluster, which clients reach like any other.

It keeps about 5 MB for each partition, so it serves a demo and quick tests and no benchmark. Trap: it ends with the
client that started it, so the client is kept as long as the cluster is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Producer as RawProducer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["EmbeddedBroker"]

BROKERS = 1
"""Each consumer asks each broker for more a hundred times a second, data or not: more brokers only cost CPU."""
ANSWER_S = 10.0


class EmbeddedBroker:
    """A Kafka cluster for as long as its ``with`` block runs; topics appear when first asked for."""

    def __init__(self) -> None:
        self._cluster: RawProducer | None = None
        self.bootstrap = ""
        """The address for ``bootstrap.servers``; empty while it does not run."""

    def __enter__(self) -> Self:
        """Start it."""
        self._cluster = RawProducer({"test.mock.num.brokers": BROKERS, "log_level": 3})
        brokers = self._cluster.list_topics(timeout=ANSWER_S).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and forget its topics."""
        self._cluster = None
        self.bootstrap = ""
