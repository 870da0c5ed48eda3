"""Where letters lie and where they go back to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from shadowstream.errors import BrokerError, SetupError
from shadowstream.kafka.clients import explained
from shadowstream.kafka.outlets import retry_topic, side_topics
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer as RawConsumer

    from shadowstream.config import Settings

__all__ = ["Box", "BoxKind", "box_of", "boxes_of", "standing"]

ANSWER_S = 10.0
SIDES = (".shadow.dlq", ".shadow.parked", ".shadow.retry", ".dlq", ".retry", ".quarantine")


class BoxKind(StrEnum):
    """Why letters lie there."""

    DEAD = "dlq"
    PARKED = "parked"
    RESTING = "retry"
    """Between two rounds: the worker itself takes them up again."""


@dataclass(frozen=True, slots=True)
class Box:
    """One side topic: the letters of one topic in one lane."""

    kind: BoxKind
    lane: Lane
    topic: str
    """The topic as configured."""
    place: str
    """The side topic that the letters lie in."""
    source: str
    """The Kafka topic that the lane reads, to which they go back."""
    quarantine: str
    """Where letters go that cannot be trusted."""
    group: str
    """The group that remembers what is answered for: one that nobody ever joins; for what rests, the lane's own."""

    @property
    def origins(self) -> frozenset[str]:
        """The topics that a letter may say it came from; a changed route must not strand old letters."""
        return frozenset((self.topic, self.source, f"shadow.{self.topic}"))


def box_of(settings: Settings, topic: str, kind: BoxKind, lane: Lane) -> Box:
    """Return where a topic's letters of one kind and lane lie.

    Raises:
        ConfigError: the lane is the shadow lane and it is off.
        SetupError: the topic is not configured, or the letters are asked for in a lane that has none.
    """
    if kind is BoxKind.PARKED and lane is Lane.NORMAL:
        raise SetupError(f"topic {topic!r}: only shadow messages are ever parked; ask for the shadow lane")
    side = next((side for side in SIDES if topic.endswith(side)), "")
    if side and topic not in settings.normal.topics:
        raise SetupError(f"topic {topic!r} is a side topic: name the topic itself, {topic.removesuffix(side)}")
    ours = settings.topic(topic, lane)
    sides = {**side_topics(topic, lane), "retry": retry_topic(topic, lane)}
    group = f"{settings.of(lane).kafka['group.id']}" + ("" if kind is BoxKind.RESTING else ".replay")
    return Box(kind, lane, topic, sides[kind], ours.source, sides["quarantine"], group)


def boxes_of(settings: Settings, topic: str, kind: BoxKind, lane: Lane | None) -> list[Box]:
    """Return the boxes of one lane; of every lane that runs when none is named.

    Raises:
        ConfigError: the shadow lane was asked for and it is off.
        SetupError: the topic is not configured.
    """
    if kind is BoxKind.PARKED:
        return [box_of(settings, topic, kind, Lane.SHADOW)]
    lanes = list(Lane) if settings.shadow is not None else [Lane.NORMAL]
    return [box_of(settings, topic, kind, each) for each in ([lane] if lane else lanes)]


def standing(client: RawConsumer, boxes: Sequence[Box]) -> dict[Box, list[int]]:
    """Return the boxes whose side topic exists, with its partitions.

    Raises:
        BrokerError: none of them does, or no broker answers.
    """
    known = partitions_of(client)
    found = {box: known[box.place] for box in boxes if box.place in known}
    if not found:
        raise BrokerError(_missing(boxes, sorted(known)))
    return found


def partitions_of(client: RawConsumer) -> dict[str, list[int]]:
    """Return every topic of the cluster with its partitions.

    Raises:
        BrokerError: no broker answers.
    """
    try:
        known = client.list_topics(timeout=ANSWER_S).topics
    except KafkaException as error:
        raise BrokerError(f"no broker answered within {ANSWER_S:g} s: {explained(error.args[0])}") from error
    return {name: sorted(topic.partitions) for name, topic in known.items() if topic.error is None}


def _missing(boxes: Sequence[Box], known: Sequence[str]) -> str:
    topic, kind = boxes[0].topic, boxes[0].kind
    named = {
        BoxKind.DEAD: f"dead letters of {topic} lie in {topic}.dlq (normal lane) and {topic}.shadow.dlq (shadow lane)",
        BoxKind.PARKED: f"parked messages of {topic} lie in {topic}.shadow.parked",
        BoxKind.RESTING: f"what rests of {topic} is in {topic}.retry (normal lane) and {topic}.shadow.retry (shadow)",
    }[kind]
    near = [name for name in known if name.startswith(f"{topic}.") or name in {topic, f"shadow.{topic}"}]
    return (
        f"no topic {' or '.join(box.place for box in boxes)} on this cluster: {named}; of this topic there are:"
        f" {', '.join(near) or 'none'}. If the name is right, nothing was set aside yet; a cluster that makes no topics"
        " by itself needs it created, or nothing ever can be"
    )
