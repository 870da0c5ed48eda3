"""Kafka's own word: where groups stand, what lies in the log, which copies were made; past all links."""

from __future__ import annotations

import struct
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from containers.cluster.brokers import until
from shadowstream.kafka.outlets import side_topics
from shadowstream.lane import Lane
from tests.chaos.fleet import GROUPS
from tests.chaos.oracle import Commit, Logged, Place, Positions, Stand
from tests.chaos.records import order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from confluent_kafka import Message

    from containers.cluster.brokers import KafkaCluster
    from tests.chaos.load import Source

T = TypeVar("T")

OFFSETS = "__consumer_offsets"
OFFSET_KEYS = (0, 1)
"""Versions of a key that tells of a commit; the others tell of groups and their members."""
ANSWER_S = 3
READ_S = 120.0
PROPERTIES = {"enable.auto.commit": False, "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 500, "log_level": 0}


class Witness:
    """Asks the brokers directly."""

    def __init__(self, cluster: KafkaCluster, sources: list[Source]) -> None:
        self._cluster = cluster
        self._topics = sorted({topic for each in sources for topic in (each.topic, each.shadow_topic)})
        self._named = [each.topic for each in sources]
        self._readers = {lane: self._reader(group) for lane, group in GROUPS.items()}

    def _reader(self, group: str = "witness") -> Consumer:
        return Consumer({"bootstrap.servers": self._cluster.direct, "group.id": group, **PROPERTIES})

    def close(self) -> None:
        """Leave nothing open."""
        for reader in self._readers.values():
            reader.close()

    def asked(self, lane: str) -> Stand | None:
        """Return where a lane's group stands now; None when nobody answers."""
        # A plain client that never joins: the admin client's own question ends the process while a coordinator is made.
        try:
            reader = self._readers[lane]
            places = [TopicPartition(*place) for place in self._places(reader, self._topics)]
            told = reader.committed(places, timeout=ANSWER_S)
        except KafkaException:
            return None
        positions = {(each.topic, each.partition): each.offset for each in told if each.error is None}
        return Stand(lane, time.monotonic_ns(), {place: at for place, at in positions.items() if at >= 0})

    def begin(self) -> None:
        """Let both groups stand at the beginning, before anybody joins them."""
        for lane, reader in self._readers.items():
            until(partial(self._put, reader), f"group {GROUPS[lane]} stands at the beginning", READ_S)

    def _put(self, reader: Consumer) -> bool:
        try:
            places = [TopicPartition(*place, 0) for place in self._places(reader, self._topics)]
            return all(each.error is None for each in reader.commit(offsets=places, asynchronous=False))
        except KafkaException:
            # The first group of a cluster waits for its coordinator to be made.
            return False

    def _places(self, reader: Consumer, topics: Iterable[str]) -> list[Place]:
        known = reader.list_topics(timeout=ANSWER_S).topics
        if missing := set(topics) - known.keys():
            # Each broker hears of a topic in its own time, and after its own start.
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"not known yet: {sorted(missing)}"))
        return [(topic, each) for topic in topics for each in known[topic].partitions]

    def surely(self, lane: str) -> Stand:
        """Return where a lane's group stands, as soon as somebody answers."""
        latest = time.monotonic() + READ_S
        while (found := self.asked(lane)) is None:
            if time.monotonic() > latest:
                raise TimeoutError(f"nobody says where group {GROUPS[lane]} stands")
            time.sleep(0.2)
        return found

    def behind(self) -> list[str]:
        """Return where a lane's group has messages before it: `n chaos.plain[2] 17 of 20`."""
        ends = self.ends(self._topics)
        stands = {lane: self.surely(lane).positions for lane in GROUPS}
        return [
            f"{lane} {place[0]}[{place[1]}] {stands[lane].get(place, 0)} of {end}"
            for lane in GROUPS
            for place, end in ends.items()
            if self.reads(lane, place[0]) and stands[lane].get(place, 0) < end
        ]

    def reads(self, lane: str, topic: str) -> bool:
        """Tell whether a lane's cursor reads this topic."""
        apart = topic.startswith("shadow.")
        return apart is (lane == "s") or (not apart and f"shadow.{topic}" not in self._topics)

    def ends(self, topics: Iterable[str]) -> Positions:
        """Return where each partition of these topics ends."""
        reader = self._reader()
        try:
            return {place: self._end(reader, place) for place in self._known(reader, topics)}
        finally:
            reader.close()

    def _known(self, reader: Consumer, topics: Iterable[str]) -> list[Place]:
        return until_known(lambda: self._places(reader, topics))

    def _end(self, reader: Consumer, place: Place) -> int:
        asked = TopicPartition(*place)
        return until_known(lambda: int(reader.get_watermark_offsets(asked, timeout=READ_S, cached=False)[1]))

    def log(self) -> list[Logged]:
        """Return every message in the log of the topics that the load writes to."""
        return [
            Logged(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.key() or b"",
                order_of(message.value()),
            )
            for message in self._read(self._topics)
        ]

    def commits(self) -> list[Commit]:
        """Return every commit there ever was, in order: they are a log like any other."""
        since_boot_ns = time.monotonic_ns() - time.time_ns()
        lanes = {group: lane for lane, group in GROUPS.items()}
        found = []
        for message in self._read([OFFSETS]):
            group, place = _key(message.key() or b"")
            value = message.value()
            if group in lanes and place is not None and value is not None:
                (position,) = struct.unpack_from(">q", value, 2)
                # The broker notes whole milliseconds: at the end of this one it was surely made.
                at_ns = (message.timestamp()[1] + 1) * 1_000_000 + since_boot_ns
                found.append(Commit(lanes[group], place, position, at_ns))
        return found

    def copies(self) -> dict[str, Counter[int]]:
        """Return the numbers of all messages that were set aside."""
        found: dict[str, Counter[int]] = {"dlq": Counter(), "quarantine": Counter(), "parked": Counter()}
        for what, numbers in found.items():
            topics = {side_topics(topic, lane)[what] for topic in self._named for lane in Lane}
            numbers.update(order_of(message.value()).number for message in self._read(sorted(topics)))
        return found

    def _read(self, topics: list[str]) -> Iterator[Message]:
        ends = {place: end for place, end in self.ends(topics).items() if end}
        reader = self._reader()
        try:
            reader.assign([TopicPartition(*place, 0) for place in ends])
            latest = time.monotonic() + READ_S
            while ends:
                if time.monotonic() > latest:
                    raise TimeoutError(f"not read to the end within {READ_S:g} s: {ends}")
                for message in reader.consume(2000, 0.2):
                    if message.error() is None:
                        yield message
                # Transactions and compaction leave gaps, so the position says when a partition is read.
                for each in reader.position([TopicPartition(*place) for place in ends]):
                    if each.offset >= ends[each.topic, each.partition]:
                        del ends[each.topic, each.partition]
        finally:
            reader.close()


def _key(key: bytes) -> tuple[str, Place | None]:
    """Read which group and partition a commit is about; None where the message is about something else."""
    (version,) = struct.unpack_from(">h", key)
    if version not in OFFSET_KEYS:
        return "", None
    group, behind = _text(key, 2)
    topic, behind = _text(key, behind)
    (partition,) = struct.unpack_from(">i", key, behind)
    return group, (topic, partition)


def _text(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + size].decode(), at + 2 + size


def until_known(ask: Callable[[], T]) -> T:
    """Ask again while the cluster does not know what is asked for: a topic or a partition that was just made."""
    latest = time.monotonic() + READ_S
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > latest:
                raise
            time.sleep(0.2)
