"""What brokers say of partitions: where a group stands, where a log begins and ends, what was written since.

Trap: inside a consumer's own callback its ``list_topics()`` takes away what poll() needs to go on, and the process
aborts: another client is asked (``test_where_the_shadow_group_begins_is_committed_before_anything_is_handled``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_INVALID, KafkaException, TopicPartition

from shadowstream.errors import BrokerError
from shadowstream.kafka.clients import explained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer as RawConsumer

__all__ = ["at_beginning", "committed", "not_after", "partitions_of", "pinned"]

ANSWER_S = 5.0
"""How long one question is waited for; a rebalance waits for it."""


def committed(client: RawConsumer, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Return where a client's group stands, with the metadata; it need not be a member."""
    asked = [TopicPartition(each.topic, each.partition) for each in partitions]
    if not asked:
        return []
    try:
        found: list[TopicPartition] = client.committed(asked, timeout=ANSWER_S)
    except KafkaException as error:
        raise BrokerError(f"committed offsets cannot be read: {explained(error.args[0])}") from error
    for each in found:
        if each.offset < 0:
            each.offset = OFFSET_INVALID
    return found


def partitions_of(client: RawConsumer, topic: str) -> list[TopicPartition]:
    """Return a topic's partitions, as a client says whose callback this is not."""
    try:
        known = client.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
    except KafkaException as error:
        raise BrokerError(f"the partitions of {topic} cannot be read: {explained(error.args[0])}") from error
    return [TopicPartition(topic, partition) for partition in sorted(known)]


def pinned(client: RawConsumer, places: Iterable[TopicPartition], *, at_end: bool) -> list[TopicPartition]:
    """Put a number on each place that has none, that of the log's beginning or end: a number can be committed."""
    return [
        TopicPartition(each.topic, each.partition, each.offset if each.offset >= 0 else _ends(client, each)[at_end])
        for each in places
    ]


def at_beginning(client: RawConsumer, places: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Return where the logs of these partitions begin."""
    return [TopicPartition(each.topic, each.partition, _ends(client, each)[0]) for each in places]


def not_after(client: RawConsumer, places: Iterable[TopicPartition], moment: float) -> list[TopicPartition]:
    """Move each place back to the first message since a moment, in seconds of the wall clock, if that comes first."""
    offsets = {(each.topic, each.partition): each.offset for each in places}
    asked = [TopicPartition(*place, int(moment * 1000)) for place in offsets]
    try:
        found = client.offsets_for_times(asked, timeout=ANSWER_S) if asked else []
    except KafkaException as error:
        raise BrokerError(f"what was written since cannot be asked: {explained(error.args[0])}") from error
    since = {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}
    return [TopicPartition(*place, min(offset, since.get(place, offset))) for place, offset in offsets.items()]


def _ends(client: RawConsumer, place: TopicPartition) -> tuple[int, int]:
    try:
        # None on a timeout, whatever the stubs say.
        found: tuple[int, int] | None = client.get_watermark_offsets(place, timeout=ANSWER_S)
    except KafkaException as error:
        raise BrokerError(f"the ends of {place.topic} cannot be read: {explained(error.args[0])}") from error
    if found is None:
        raise BrokerError(f"the ends of {place.topic} cannot be read: no answer within {ANSWER_S:g} s")
    return found
