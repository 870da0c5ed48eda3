"""What a broker answers with, as the client library hands it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import BrokerMetadata, ClusterMetadata, PartitionMetadata, TopicMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FailedPartition", "Place", "Refusal", "failure", "metadata_of", "partition_at", "place_of", "places_of"]

Place = tuple[str, int]

# The library's own errors, as against a broker's, have names that begin with an underscore.
AUTO_OFFSET_RESET = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
CONFLICT = KafkaError._CONFLICT  # noqa: SLF001
FATAL = KafkaError._FATAL  # noqa: SLF001
FENCED = KafkaError._FENCED  # noqa: SLF001
INVALID_ARG = KafkaError._INVALID_ARG  # noqa: SLF001
MAX_POLL_EXCEEDED = KafkaError._MAX_POLL_EXCEEDED  # noqa: SLF001
MSG_TIMED_OUT = KafkaError._MSG_TIMED_OUT  # noqa: SLF001
NO_OFFSET = KafkaError._NO_OFFSET  # noqa: SLF001
NOT_CONFIGURED = KafkaError._NOT_CONFIGURED  # noqa: SLF001
PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
PURGE_QUEUE = KafkaError._PURGE_QUEUE  # noqa: SLF001
STATE = KafkaError._STATE  # noqa: SLF001
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001
TRANSPORT = KafkaError._TRANSPORT  # noqa: SLF001
UNKNOWN_PARTITION = KafkaError._UNKNOWN_PARTITION  # noqa: SLF001


class Refusal(Exception):  # noqa: N818 - an answer inside the fake; users see KafkaException
    """The broker says no, or says nothing."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    @property
    def error(self) -> KafkaError:
        """The answer as the client reports it."""
        return KafkaError(self.code)


class FailedPartition(TopicPartition):
    """A partition with an error: the library's own class takes one only from its C code."""

    def __init__(self, place: TopicPartition, error: KafkaError) -> None:
        super().__init__(place.topic, place.partition, place.offset, *((place.metadata,) if place.metadata else ()))
        self._error = error

    @property
    def error(self) -> KafkaError:  # type: ignore[override] # the library's is read-only too
        """Why this partition failed."""
        return self._error

    # The library compares with its own class only, and raises for any other.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicPartition) and place_of(self) == place_of(other)

    def __lt__(self, other: TopicPartition) -> bool:
        return place_of(self) < place_of(other)

    def __hash__(self) -> int:
        return super().__hash__()


def partition_at(place: Place, offset: int, metadata: str | None) -> TopicPartition:
    """Return a partition with an offset; the library takes no metadata that is None, though it gives it."""
    return TopicPartition(*place, offset) if metadata is None else TopicPartition(*place, offset, metadata)


def place_of(each: TopicPartition) -> Place:
    """Return topic and partition."""
    return each.topic, each.partition


def places_of(partitions: Iterable[TopicPartition]) -> list[Place]:
    """Return topic and partition of each."""
    return [(each.topic, each.partition) for each in partitions]


def failure(what: str, error: KafkaError) -> KafkaException:
    """Return what a client's method raises: the error, with what was tried in front."""
    return KafkaException(KafkaError(error.code(), f"{what}: {error.str()}", fatal=error.fatal()))


def metadata_of(topics: Mapping[str, int], asked: str | None) -> ClusterMetadata:
    """Return the cluster's topics and their partitions, all led by one broker."""
    found = ClusterMetadata()
    node = BrokerMetadata()
    node.id = 1
    found.brokers, found.controller_id, found.orig_broker_id = {1: node}, 1, 1
    names = topics if asked is None else (asked,)
    found.topics = {name: _topic_of(name, topics.get(name)) for name in names}
    return found


def _topic_of(name: str, partitions: int | None) -> TopicMetadata:
    found = TopicMetadata()
    found.topic = name
    if partitions is None:
        found.error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    for number in range(partitions or 0):
        place = PartitionMetadata()
        place.id, place.leader, place.replicas, place.isrs = number, 1, [1], [1]
        found.partitions[number] = place
    return found
