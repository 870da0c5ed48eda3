"""A Kafka cluster in memory: topics, groups and transactions, for tests that run in one thread on a virtual clock.

Nothing happens by itself: each request of a client first lets happen what its time has come for (`settle`). What is
wrong is asked for by the test (`faults`), never drawn here.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from shadowstream.testing.answers import TIMED_OUT, UNKNOWN_PARTITION, Place, Refusal
from shadowstream.testing.faults import Faults
from shadowstream.testing.groups import METADATA_LIMIT, ClassicGroup, ModernGroup, Offsets, Stand
from shadowstream.testing.log import Headers, Log, Record
from shadowstream.testing.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shadowstream.testing.clock import Clock
    from shadowstream.testing.groups import Credentials

__all__ = ["Broker"]

MAX_MESSAGE_BYTES = 1_048_588
"""A broker's own default of ``message.max.bytes``."""


def _next_in_turn(places: Sequence[Place], last: Place | None) -> int:
    """Choose the first partition after the one that was read last."""
    return next((at for at, place in enumerate(places) if last is None or place > last), 0)


class Broker:
    """One cluster. Clients are made with it: ``MemoryConsumer(properties, broker=broker)``."""

    def __init__(
        self,
        clock: Clock,
        *,
        pick: Callable[[Sequence[Place], Place | None], int] = _next_in_turn,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Start empty; ``pick`` chooses which of several partitions with messages a consumer reads next.

        It is given the sorted partitions and the one read last, and returns an index: a test may draw it.
        """
        self.clock = clock
        self.faults = Faults()
        self.pick = pick
        self.max_message_bytes = max_message_bytes
        self.logs: dict[Place, Log] = {}
        self.topics: dict[str, int] = {}
        """Number of partitions by topic."""
        self.offsets: defaultdict[str, Offsets] = defaultdict(Offsets)
        """By group."""
        self.groups: dict[str, ClassicGroup | ModernGroup] = {}
        self.transactions = Transactions(self)
        self._numbers = count(1)

    # Topics

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic, or give it more partitions."""
        for number in range(self.topics.get(name, 0), partitions):
            self.logs[name, number] = Log()
        if partitions > self.topics.get(name, 0):
            self.topics[name] = partitions
            for group in self.groups.values():
                group.repartitioned(name, self.clock.monotonic())

    def log(self, topic: str, partition: int = 0) -> Log:
        """Return one partition's log.

        Raises:
            Refusal: there is no such partition.
        """
        try:
            return self.logs[topic, partition]
        except KeyError:
            unknown = UNKNOWN_PARTITION if topic in self.topics else KafkaError.UNKNOWN_TOPIC_OR_PART
            raise Refusal(unknown) from None

    def append(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        partition: int = 0,
        headers: Headers | None = None,
    ) -> int:
        """Put a message into a log as if somebody had produced it; returns its offset."""
        timestamp = int(self.clock.time() * 1000)
        return self.log(topic, partition).append(Record(topic, partition, key, value, headers, timestamp))

    # Groups

    def fresh_id(self, client: str) -> str:
        """Make up an id that nobody else has; the same ones in the same order for each broker."""
        return f"{client}-{next(self._numbers):06}"

    def group(self, name: str, *, modern: bool = False) -> ClassicGroup | ModernGroup:
        """Return a group, made when it is first asked for; an empty one can change its kind."""
        kind = ModernGroup if modern else ClassicGroup
        group = self.groups.get(name)
        if group is None or (not isinstance(group, kind) and not group.members()):
            group = self.groups[name] = kind(self.topics)
        if not isinstance(group, kind):
            raise Refusal(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
        return group

    def stands(self, group: str) -> dict[Place, int]:
        """Return where a group stands, by partition."""
        return {place: stand.offset for place, stand in self.offsets[group].stands.items()}

    def commit(self, client: str, group: str, who: Credentials, stands: Mapping[Place, Stand]) -> dict[Place, int]:
        """Commit offsets; returns the error code of each partition that was refused.

        Raises:
            Refusal: all of it was refused, or no answer came.
        """
        self.reached_by(client)
        fault = self.faults.commits.popleft() if self.faults.commits else None
        if fault is not None and not fault.applied:
            raise Refusal(fault.code)
        if (members := self.groups.get(group)) is not None:
            members.check_commit(who)
        refused: dict[Place, int] = {}
        for place, stand in stands.items():
            if place not in self.logs:
                refused[place] = KafkaError.UNKNOWN_TOPIC_OR_PART
            elif stand.metadata and len(stand.metadata.encode()) > METADATA_LIMIT:
                refused[place] = KafkaError.OFFSET_METADATA_TOO_LARGE
            else:
                self.offsets[group].commit(place, stand)
        if fault is not None:
            raise Refusal(fault.code)
        return refused

    # Time and faults

    def settle(self) -> None:
        """Let happen what its time has come for; while the broker is down, nothing does."""
        if not self.faults.down:
            now = self.clock.monotonic()
            for group in self.groups.values():
                if group.due() <= now:
                    group.tick(now)
            self.transactions.tick(now)

    def due(self) -> float:
        """Return when something happens here by itself; infinity: never."""
        if self.faults.down:
            return float("inf")
        return min([self.transactions.due(), *(group.due() for group in self.groups.values())])

    def stop(self) -> None:
        """Be unreachable for everybody, from now on."""
        self.faults.down = True

    def start(self) -> None:
        """Be reachable again; what was taken is still there, and members get time to show themselves."""
        self.faults.down = False
        for group in self.groups.values():
            group.refresh(self.clock.monotonic())

    def reached_by(self, client: str) -> None:
        """Let a client's request in.

        Raises:
            Refusal: it does not reach the broker, and gets no answer.
        """
        if not self.faults.reaches(client):
            raise Refusal(TIMED_OUT)
        self.settle()

    def heartbeat_of(self, client: str) -> bool:
        """Let a client's heartbeat in; False when its answer gets lost.

        Raises:
            Refusal: it does not reach the broker.
        """
        self.reached_by(client)
        if not self.faults.beats:
            return True
        fault = self.faults.beats.popleft()
        if not fault.applied:
            raise Refusal(fault.code)
        return False
