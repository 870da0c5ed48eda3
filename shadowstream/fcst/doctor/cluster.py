"""What the brokers say: whether they are there, the topics, what compaction would do, and what we may do.

Trap: with ``cleanup.policy=compact`` a shadow message with a real one's key takes its place for good, and nothing that
reads it later can tell (``test_a_compacted_topic_on_which_shadow_messages_lie_is_refused``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from shadowstream.config import OnLimit, Route
from shadowstream.errors import BrokerError
from shadowstream.fcst.doctor.diagnosis import bad, good, poor
from shadowstream.kafka.clients import QUIET, explained
from shadowstream.kafka.outlets import retry_topic, side_topics
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shadowstream.config import Settings, TopicSettings
    from shadowstream.fcst.doctor.diagnosis import Diagnosis

__all__ = ["Cluster"]

ANSWER_S: Final = 10.0
OF_CONNECTIONS: Final = ("bootstrap.servers", "sasl.", "security.", "ssl.", "client.id", "socket.", "broker.address")


class Cluster:
    """One look at a service's cluster.

    Raises:
        BrokerError: no broker answers.
    """

    def __init__(self, settings: Settings, timeout_s: float = ANSWER_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        own = settings.normal.kafka
        self.admin = AdminClient({name: own[name] for name in own if name.startswith(OF_CONNECTIONS)} | dict(QUIET))
        try:
            self._metadata = self.admin.list_topics(timeout=timeout_s)
        except KafkaException as error:
            raise BrokerError(f"no broker answers within {timeout_s:g} s: {explained(error.args[0])}") from error

    def brokers(self) -> Iterator[Diagnosis]:
        """Say who answered."""
        count = len(self._metadata.brokers)
        yield good("brokers", f"{count} answer at {self._settings.normal.kafka['bootstrap.servers']}")

    def topics(self) -> Iterator[Diagnosis]:
        """Look at each topic, and at those beside it."""
        rights, policies = self._rights(), self._policies()
        for topic in self._settings.normal.topics.values():
            yield from self._topic(topic, rights, policies)

    def _topic(
        self, topic: TopicSettings, rights: Mapping[str, frozenset[str]], policies: Mapping[str, str]
    ) -> Iterator[Diagnosis]:
        about = f"topic {topic.name}"
        if topic.name not in self._known:
            yield bad(about, "is not on the cluster", "Create it, or correct its name under `topics:`.")
            return
        missing = [each for each in self._beside(topic) if each not in self._known]
        if missing:
            cure = "Create them; what cannot be set aside there holds its partition up."
            yield bad(about, f"has no {', '.join(missing)}", cure)
        yield from self._partitions(topic)
        yield from self._compaction(topic, policies)
        yield from self._allowed(topic, rights)
        if not missing:
            yield good(
                about, f"{len(self._metadata.topics[topic.name].partitions)} partitions, and all that belongs to it"
            )

    def _partitions(self, topic: TopicSettings) -> Iterator[Diagnosis]:
        shadow = f"shadow.{topic.name}"
        if topic.route is not Route.TOPIC or shadow not in self._known:
            return
        normal, other = (len(self._metadata.topics[each].partitions) for each in (topic.name, shadow))
        if normal != other:
            told = f"has {normal} partitions and {shadow} has {other}: keys lie in other partitions there"
            yield poor(f"topic {topic.name}", told, "Give both the same number.")

    def _compaction(self, topic: TopicSettings, policies: Mapping[str, str]) -> Iterator[Diagnosis]:
        shadow = self._settings.shadow
        if shadow is None or not topic.enabled or "compact" not in policies.get(topic.name, ""):
            return
        if shadow.topics[topic.name].route is Route.SAME:
            told = "is compacted: a shadow message with a real one's key takes its place for good"
            yield bad(f"topic {topic.name}", told, "Write `route: topic`, so that shadow has a topic of its own.")

    def _allowed(self, topic: TopicSettings, rights: Mapping[str, frozenset[str]]) -> Iterator[Diagnosis]:
        wanted = [(topic.name, "READ"), *((each, "WRITE") for each in self._beside(topic))]
        for name, operation in wanted:
            granted = rights.get(name)
            if granted is not None and operation not in granted:
                cure = f"Grant this service {operation} on it."
                yield bad(f"topic {topic.name}", f"this service may not {operation} {name}", cure)

    def _beside(self, topic: TopicSettings) -> list[str]:
        """Return the topics that messages of this one may go to."""
        shadow = self._settings.shadow
        names: dict[str, None] = {}
        for lane in Lane if shadow is not None and topic.enabled else (Lane.NORMAL,):
            ours = self._settings.topic(topic.name, lane)
            sides = side_topics(topic.name, lane)
            if ours.on_limit is not OnLimit.PARK:
                sides.pop("parked")
            names |= dict.fromkeys(sides.values())
            names |= dict.fromkeys([retry_topic(topic.name, lane)] if ours.rounds else [])
            names |= dict.fromkeys([ours.source] if ours.source != topic.name else [])
        return list(names)

    @property
    def _known(self) -> Mapping[str, Any]:
        return self._metadata.topics

    def _rights(self) -> Mapping[str, frozenset[str]]:
        """Return what this service may do with each topic; nothing for those that the broker says nothing of."""
        ours = [each for topic in self._settings.normal.topics.values() for each in (topic.name, *self._beside(topic))]
        names = [name for name in dict.fromkeys(ours) if name in self._known]
        if not names:
            return {}
        asked = self.admin.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=self._timeout_s
        )
        rights: dict[str, frozenset[str]] = {}
        for name, answer in asked.items():
            operations = _told(answer.result).authorized_operations
            if operations:
                rights[name] = _operations(operations)
        return rights

    def _policies(self) -> Mapping[str, str]:
        names = [name for name in self._settings.normal.topics if name in self._known]
        if not names:
            return {}
        asked = self.admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=self._timeout_s
        )
        return {each.name: _told(answer.result)["cleanup.policy"].value for each, answer in asked.items()}


def _operations(operations: list[AclOperation]) -> frozenset[str]:
    names = frozenset(each.name for each in operations)
    return names | {"READ", "WRITE"} if "ALL" in names else names


def _told(result: Any) -> Any:  # noqa: ANN401 - a future's answer
    """Return an answer.

    Raises:
        BrokerError: there is none.
    """
    try:
        return result()
    except KafkaException as error:
        raise BrokerError(f"the brokers do not say: {explained(error.args[0])}") from error
