"""What the tests of the Kafka room share: settings on the shared broker, plain clients beside ours, a way to wait.

PYTEST_DONT_REWRITE: the tests import it before pytest could. They reach everything through the `rig` fixture.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

import shadowstream as ss
from shadowstream.events import Carried, CopyFailed, Event, Rebalanced, Transition
from shadowstream.kafka.outlets import side_topics
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from confluent_kafka import Message as RawMessage
    from confluent_kafka.admin import AdminClient

    from containers.kafka import KafkaContainer
    from shadowstream.config import LaneSettings

    Section = dict[str, Any]
    Headers = list[tuple[str, bytes | None]]

DEADLINE_S = 45.0
LOOK_S = 0.02
REPO = Path(__file__).resolve().parents[2]
MARK = b"1;run=fcst-1111"
MARKED: Headers = [("x-shadow", MARK)]
KEY_VARIABLE, SECRET = "SHADOW_KEY_1", "not a secret"
SIGNED: Section = {"trust": "signed", "keys": [{"id": "k1", "secret_env": KEY_VARIABLE}]}
QUICK: Section = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100}


def eventually(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds; fail naming it when it never does."""
    until = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"not within {deadline_s:g} s: {what}")
        time.sleep(LOOK_S)


def headers_of(message: RawMessage) -> Headers:
    """Return a message's headers as the client gives them for what was consumed."""
    found: Any = message.headers()
    return found or []


def text_of(message: RawMessage | ss.Message) -> str:
    """Return a message's value as text."""
    return (message.value() or b"").decode()


@dataclass
class Heard:
    """A hook that remembers, one for all lanes."""

    events: list[Event] = field(default_factory=list)

    def on(self, event: Event) -> None:
        """Remember one fact."""
        self.events.append(event)

    def hooks(self, _settings: LaneSettings) -> list[Heard]:
        """Be the hooks of a lane."""
        return [self]

    def carried(self, lane: Lane, topic: str | None = None) -> list[Carried]:
        """Return what one lane carried."""
        facts = [event for event in list(self.events) if isinstance(event, Carried) and event.lane is lane]
        return [fact for fact in facts if topic in (None, fact.topic)]

    def outcomes(self, lane: Lane, topic: str | None = None) -> dict[str, int]:
        """Return how many messages of one lane ended how."""
        sums: Counter[str] = Counter()
        for fact in self.carried(lane, topic):
            sums.update({outcome.value: count for outcome, count in fact.outcomes.items()})
        return dict(sums)

    def reasons(self, lane: Lane) -> dict[str, int]:
        """Return why messages were quarantined."""
        sums: Counter[str] = Counter()
        for fact in self.carried(lane):
            sums.update(fact.reasons)
        return dict(sums)

    def stepped_over(self, lane: Lane) -> int:
        """Return how many messages of the other lane were stepped over."""
        return sum(fact.stepped_over for fact in self.carried(lane))

    def rebalances(self, lane: Lane) -> list[Rebalanced]:
        """Return what happened to one lane's partitions."""
        return [event for event in list(self.events) if isinstance(event, Rebalanced) and event.lane is lane]

    def assigned(self, lane: Lane) -> set[tuple[str, int]]:
        """Return the partitions that one lane was ever given."""
        return {place for each in self.rebalances(lane) if each.change == "assigned" for place in each.partitions}

    def transitions(self, lane: Lane) -> list[str]:
        """Return the states that breakers of one lane went to."""
        return [event.after for event in list(self.events) if isinstance(event, Transition) and event.lane is lane]

    def copies_failed(self, lane: Lane) -> list[str]:
        """Return why copies of one lane were not delivered."""
        return [event.error for event in list(self.events) if isinstance(event, CopyFailed) and event.lane is lane]


class Rig:
    """One test's place on the shared broker: its own group, its own topics, its own folder."""

    def __init__(self, kafka: KafkaContainer, unique: Callable[[str], str], folder: Path) -> None:
        self.kafka = kafka
        self.bootstrap = kafka.bootstrap
        self.folder = folder
        self.started_at = time.time()
        self.group = unique("group")
        self.heard = Heard()
        self._unique = unique
        self._producer: Producer | None = None
        self._onlookers: dict[str, Consumer] = {}

    # Set-up

    def topics(
        self, *names: str, partitions: int = 1, aside: bool = True, config: Mapping[str, str] | None = None
    ) -> list[str]:
        """Create topics with every place their messages may go to; ``aside`` False leaves those out."""
        ours = [self._unique(name) for name in names]
        others = {place for topic in ours for lane in Lane for place in side_topics(topic, lane).values()}
        others |= {f"shadow.{topic}" for topic in ours}
        self.kafka.create_topics(
            {**dict.fromkeys(ours, partitions), **(dict.fromkeys(others, partitions) if aside else {})}, config
        )
        return ours

    def topic(self, name: str = "in", partitions: int = 1) -> str:
        """Create one topic."""
        return self.topics(name, partitions=partitions)[0]

    def document(self, topics: Mapping[str, Section], **sections: Any) -> Section:
        """Return a configuration for these topics; sections are laid over the quick defaults."""
        kafka = {"bootstrap.servers": self.bootstrap, "group.id": self.group, **QUICK, **sections.pop("kafka", {})}
        worker = {"commit_every": "100ms", "drain": "10s", "nice": 0, **sections.pop("worker", {})}
        document = {"service": "tests", "kafka": kafka, "topics": dict(topics), "worker": worker, **sections}
        return {name: section for name, section in document.items() if section is not None}

    def settings(self, topics: Mapping[str, Section], **sections: Any) -> ss.Settings:
        """Load a configuration for these topics."""
        path = self.folder / "shadowstream.yaml"
        path.write_text(json.dumps(self.document(topics, **sections)))
        return ss.load(path, environ={KEY_VARIABLE: SECRET})

    def worker(self, settings: ss.Settings, lanes: Any = "both") -> ss.Worker:
        """Return a worker that the rig hears."""
        return ss.Worker(settings, lanes, hooks=self.heard.hooks)

    def group_of(self, lane: Lane) -> str:
        """Return one lane's group."""
        return self.group if lane is Lane.NORMAL else f"{self.group}.shadow"

    def begin(self, *topics: str) -> None:
        """Let both lanes' groups stand at the beginning, so that no lane's start depends on the other's."""
        for topic in topics:
            for lane in Lane:
                self.commit(self.group_of(lane), dict.fromkeys(self.places(topic), 0))

    # Beside ours: plain clients, which know nothing of lanes

    @property
    def producer(self) -> Producer:
        """A plain producer."""
        if self._producer is None:
            self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        return self._producer

    def deny(self, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Let nobody do one thing with a topic or a group, on a broker that asks who may do what."""
        # Whoever is named by no rule may do nothing once there is one; so everything else is allowed by hand.
        for each, permission in ((operation, AclPermissionType.DENY), (AclOperation.ALL, AclPermissionType.ALLOW)):
            rule = AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", each, permission)
            for answer in self.admin.create_acls([rule]).values():
                answer.result(DEADLINE_S)

    def allow(self, kind: ResourceType, name: str) -> None:
        """Let everybody do everything with it again."""
        anything = AclOperation.ANY, AclPermissionType.ANY
        for answer in self.admin.delete_acls(
            [AclBindingFilter(kind, name, ResourcePatternType.LITERAL, None, None, *anything)]
        ).values():
            answer.result(DEADLINE_S)

    def forget_clients(self) -> None:
        """Go on with new plain clients: these do not know of partitions that were added."""
        self.close()
        self._producer = None
        self._onlookers.clear()

    def send(self, topic: str, values: Iterable[object], headers: Headers | None = None, **more: Any) -> None:
        """Produce values as text from a plain producer, and see them delivered."""
        errors: list[object] = []
        given: Any = headers
        for value in values:
            self.producer.produce(
                topic, str(value), headers=given, on_delivery=lambda error, _: errors.append(error), **more
            )
            self.producer.poll(0)
        assert self.producer.flush(DEADLINE_S) == 0
        assert all(error is None for error in errors)

    def send_both(self, topic: str, *values: object) -> None:
        """Send values in both lanes."""
        self.send(topic, values)
        self.send(topic, values, MARKED)

    def places(self, topic: str) -> list[TopicPartition]:
        """Return a topic's partitions."""
        found = self.admin.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions
        return [TopicPartition(topic, partition) for partition in sorted(found)]

    @property
    def admin(self) -> AdminClient:
        """The broker's admin client."""
        return self.kafka.admin

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last message of each partition."""
        return {partition: end for partition, (_, end) in self._bounds(topic).items()}

    def starts(self, topic: str) -> dict[int, int]:
        """Return the offset of the first message that is left in each partition."""
        return {partition: start for partition, (start, _) in self._bounds(topic).items()}

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        asked = self._of_group(self.group).get_watermark_offsets
        return {each.partition: asked(each, timeout=DEADLINE_S, cached=False) for each in self.places(topic)}

    def read(self, topic: str) -> list[RawMessage]:
        """Return every message that is in a topic now, by partition and offset."""
        ends = self.ends(topic)
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self._unique("reader")})
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
            got: list[RawMessage] = []
            until = time.monotonic() + DEADLINE_S
            while len(got) < sum(ends.values()) and time.monotonic() < until:
                got += [message for message in consumer.consume(1000, 0.1) if message.error() is None]
        finally:
            consumer.close()
        assert len(got) >= sum(ends.values()), f"{len(got)} of {sum(ends.values())} read from {topic}"
        return sorted(got, key=lambda message: (message.partition(), message.offset()))

    def values(self, topic: str) -> list[str]:
        """Return the values of every message in a topic, as text."""
        return [text_of(message) for message in self.read(topic)]

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return where a group stands; partitions without an offset are left out."""
        found = self._of_group(group).committed(self.places(topic), timeout=DEADLINE_S)
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Put a group that nobody is in at some offsets."""
        places = [TopicPartition(place.topic, place.partition, offset) for place, offset in offsets.items()]
        answer = self._of_group(group).commit(offsets=places, asynchronous=False)
        assert all(each.error is None for each in answer)

    def _of_group(self, group: str) -> Consumer:
        """Return a plain client that speaks for a group and never joins it."""
        if group not in self._onlookers:
            self._onlookers[group] = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        return self._onlookers[group]

    def caught_up(self, lane: Lane, topic: str) -> bool:
        """Tell whether a lane has answered for everything in a topic."""
        ends = {partition: end for partition, end in self.ends(topic).items() if end}
        stands = self.committed(self.group_of(lane), topic)
        return all(stands.get(partition) == end for partition, end in ends.items())

    def both_caught_up(self, topic: str) -> bool:
        """Tell whether both lanes have answered for everything in a topic."""
        return all(self.caught_up(lane, topic) for lane in Lane)

    def members(self, group: str) -> list[str]:
        """Return the ids of a group's members."""
        answer = self.admin.describe_consumer_groups([group])[group].result(DEADLINE_S)
        return [member.member_id for member in answer.members]

    def member(self, lane: Lane, topic: str, **properties: Any) -> Consumer:
        """Return a plain consumer in one lane's group, whose member id comes before ours."""
        own = {"bootstrap.servers": self.bootstrap, "group.id": self.group_of(lane), "client.id": "a", **QUICK}
        consumer = Consumer({**own, "enable.auto.commit": False, "auto.offset.reset": "earliest", **properties})
        consumer.subscribe([topic])
        return consumer

    def close(self) -> None:
        """Leave nothing behind."""
        if self._producer is not None:
            self._producer.flush(DEADLINE_S)
        for onlooker in self._onlookers.values():
            onlooker.close()


@pytest.fixture
def guarded_rig(guarded_kafka: KafkaContainer, unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """One test's place on a broker that asks who may do what."""
    mine = Rig(guarded_kafka, unique, tmp_path)
    yield mine
    mine.close()


@pytest.fixture
def rig(kafka: KafkaContainer, unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """One test's place on the shared broker."""
    mine = Rig(kafka, unique, tmp_path)
    yield mine
    mine.close()
