"""A consumer of the broker in memory, with the methods and the manners of ``confluent_kafka.Consumer``.

What is different, beside that nothing runs in the background:

* It beats with each call that reads (only as often as ``heartbeat.interval.ms`` says, where that is given): a member
  that is not called does not live. `heartbeat` does what the library's own thread would between calls.
* ``poll(timeout)`` with nothing to do lets the virtual time pass, at most until the next thing is due.
* A callback's exception leaves poll() as it is; confluent-kafka 2.16.1 turns some into a SystemError.
* Commits by itself (``enable.auto.commit``) are refused in the constructor: the engine has its own.

Traps, all of them the library's:

* ``consume()`` may return messages of a partition that its own callbacks have just taken away
  (``test_a_batch_may_hold_messages_of_a_partition_that_was_taken_away_meanwhile``).
* A commit of several partitions raises if one of them failed, and the others are committed
  (``test_a_commit_of_two_partitions_raises_when_one_is_refused_and_commits_the_other``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_INVALID, KafkaError, Message, TopicPartition

from shadowstream.testing.answers import (
    CONFLICT,
    FATAL,
    INVALID_ARG,
    MAX_POLL_EXCEEDED,
    STATE,
    TIMED_OUT,
    UNKNOWN_PARTITION,
    Place,
    Refusal,
    failure,
    metadata_of,
    partition_at,
    place_of,
    places_of,
)
from shadowstream.testing.clients.changes import Changes
from shadowstream.testing.clients.commits import Commits, due_of
from shadowstream.testing.clients.membership import ClassicMembership, Membership, ModernMembership
from shadowstream.testing.clients.properties import Properties
from shadowstream.testing.clients.reader import Reader
from shadowstream.testing.groups import NOBODY, Application, Credentials, Stand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import ClusterMetadata

    from shadowstream.testing.broker import Broker
    from shadowstream.testing.clients.changes import OnChange

__all__ = ["MemoryConsumer"]

LONGEST_S = 3600.0
"""How long poll() without a timeout waits before it calls that a deadlock."""


class MemoryConsumer:
    """A consumer of a `Broker`; made with librdkafka's properties, like ``confluent_kafka.Consumer``."""

    def __init__(self, properties: Mapping[str, Any], *, broker: Broker) -> None:
        given = Properties(properties)
        if given.on("enable.auto.commit", default=True):
            raise ValueError("enable.auto.commit is true, and this consumer never commits by itself; set it to False")
        self.broker = broker
        self.group_name = given.required("group.id", "a consumer belongs to a group, even one that never joins")
        self.name = given.text("client.id", "rdkafka")
        self.interval_s = given.seconds("heartbeat.interval.ms", 0)
        self._max_poll_s = given.seconds("max.poll.interval.ms", 300_000)
        self._answer_s = given.seconds("socket.timeout.ms", 60_000)
        self._given = given
        self._reader = Reader(broker, given.manner(self.name, self.group_name))
        self._commits = Commits(broker, self._reader, self._who, given.callback("on_commit"))
        self._membership: Membership | None = None
        self._application: Application | None = None
        self._changes = Changes()
        self._polled_at = broker.clock.monotonic()
        self._fatal: KafkaError | None = None
        self._closed = False

    # Life

    def subscribe(
        self,
        topics: list[str],
        on_assign: OnChange | None = None,
        on_revoke: OnChange | None = None,
        on_lost: OnChange | None = None,
    ) -> None:
        """Become a member of the group with the next calls of poll()."""
        self._check()
        if self._application is not None:
            raise NotImplementedError("this consumer subscribes once; make another one for other topics")
        self._changes.callbacks = (on_assign, on_revoke, on_lost)
        self._application = self._given.application(self.name, topics)
        self._membership = self._fresh_membership(self._application)
        for topic in topics:
            if topic not in self.broker.topics:
                unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
                text = f"Subscribed topic not available: {topic}: {KafkaError(unknown).str()}"
                self._reader.errors.append(Message(topic=topic, partition=0, error=KafkaError(unknown, text)))

    def close(self) -> None:
        """Have the assignment revoked, and leave the group."""
        if self._closed:
            return
        try:
            if self._membership is not None and (held := self._membership.part()) is not None:
                self._changes.add(held, given=False)
            self._changes.carry_out(self, self._reader)
            self._commits.wait()
            self._commits.serve()
        finally:
            self._leave()
            self._closed = True

    def crash(self) -> None:
        """Be gone as a killed process is: the group finds out when the session ends."""
        self._closed = True

    def heartbeat(self) -> None:
        """Do what the library's own thread does while the application is busy elsewhere: no callback runs."""
        self._check()
        now = self.broker.clock.monotonic()
        if self._membership is None or self._application is None or self._polled_at == -LONGEST_S:
            return
        if now < self._polled_at + self._max_poll_s:
            if not (self._changes.waiting or self._changes.under_way):
                self._membership.serve(fresh=True)
            return
        if held := self._membership.part():
            self._changes.add(held, given=False, lost=True)
        self._leave()
        self._membership = self._fresh_membership(self._application)
        self._polled_at = -LONGEST_S
        self.troubled(KafkaError(MAX_POLL_EXCEEDED))

    # Reading

    def poll(self, timeout: float | None = None) -> Message | None:
        """Serve callbacks and return the next message or error; None when ``timeout`` seconds brought none."""
        until = self._until(timeout)
        self._serve(fresh=True)
        while not (found := self._reader.take(1)):
            if not self._wait(until):
                return None
            self._serve()
        return found[0]

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Return up to ``num_messages``, as soon as there are so many or ``timeout`` seconds are over.

        As with a queue that was filled before, callbacks run after the messages that are at hand are taken.
        """
        until = self._until(timeout)
        batch = self._reader.take(num_messages)
        if len(batch) < num_messages:
            self._serve(fresh=True)
            batch += self._reader.take(num_messages - len(batch))
        while len(batch) < num_messages and self._wait(until):
            self._serve()
            batch += self._reader.take(num_messages - len(batch))
        return batch

    # The assignment

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these partitions and no others."""
        self._check()
        self._changes.by_hand = True
        if self._membership is not None and self._membership.incremental:
            raise failure("Failed to set assignment", KafkaError(STATE))
        self._reader.remove(list(self._reader.positions))
        self._reader.add(partitions)

    def unassign(self) -> None:
        """Read no partition."""
        self._check()
        self._changes.by_hand = True
        if isinstance(self._membership, ModernMembership):
            raise failure("Failed to remove assignment", KafkaError(STATE))
        self._commits.wait()
        self._reader.remove(list(self._reader.positions))

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Read these partitions too."""
        self._check_incremental()
        for each in partitions:
            if place_of(each) in self._reader.positions:
                where = f"{each.topic} [{each.partition}]"
                raise failure(f"{where} is already part of the current assignment", KafkaError(CONFLICT))
        self._reader.add(partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Read these partitions no more."""
        self._check_incremental()
        for each in partitions:
            if place_of(each) not in self._reader.positions:
                where = f"{each.topic} [{each.partition}]"
                raise failure(f"{where} can't be unassigned since it is not assigned", KafkaError(INVALID_ARG))
        self._commits.wait()
        self._reader.remove(places_of(partitions))

    def assignment(self) -> list[TopicPartition]:
        """Return what is read, and where each was asked to begin."""
        self._check()
        return [TopicPartition(*place, position.asked) for place, position in self._reader.positions.items()]

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Hand out no messages of these partitions."""
        self._check()
        self._reader.paused.update(places_of(partitions))

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Hand out messages of these partitions again."""
        self._check()
        self._reader.paused.difference_update(places_of(partitions))

    def seek(self, partition: TopicPartition) -> None:
        """Go on at another offset."""
        self._check()
        if place_of(partition) not in self._reader.positions:
            raise failure(f"Failed to seek to offset {partition.offset}", KafkaError(STATE))
        self._reader.seek(place_of(partition), partition.offset)

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the offset after the last message that was handed out, of each partition."""
        self._check()
        positions = [(place, self._reader.positions.get(place)) for place in places_of(partitions)]
        return [TopicPartition(*place, OFFSET_INVALID if at is None else at.app) for place, at in positions]

    # Offsets

    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        asynchronous: bool = True,  # noqa: FBT001, FBT002 - confluent-kafka's signature
    ) -> list[TopicPartition] | None:
        """Commit one message's offset, some offsets, or what poll() returned last of each partition."""
        self._check()
        stands = self._commits.asked(message, offsets)
        if self._fatal is not None:
            raise failure("Commit failed", KafkaError(FATAL))
        if asynchronous:
            self._commits.later(stands)
            return None
        if not self.broker.faults.reaches(self.name):
            self.broker.clock.advance(self._answer_s)
        return self._commits.now(stands)

    def committed(self, partitions: list[TopicPartition], timeout: float | None = None) -> list[TopicPartition]:
        """Return where the group stands, with the metadata of each commit."""
        self._check()
        self._commits.send()
        offsets = self.broker.offsets[self.group_name]
        waits = self._reader.manner.committed and any(map(offsets.unstable, places_of(partitions)))
        if waits or not self.broker.faults.reaches(self.name):
            self.broker.clock.advance(self._answer_s if timeout is None or timeout < 0 else timeout)
            raise failure("Failed to get committed offsets", KafkaError(TIMED_OUT))
        nowhere = Stand(OFFSET_INVALID)
        found = [(place, offsets.stands.get(place, nowhere)) for place in places_of(partitions)]
        return [partition_at(place, stand.offset, stand.metadata) for place, stand in found]

    def store_offsets(self, message: Message | None = None, offsets: list[TopicPartition] | None = None) -> None:
        """Note what a later commit() without arguments commits."""
        self._check()
        if self._reader.manner.stores:
            raise failure("StoreOffsets failed", KafkaError(INVALID_ARG))
        stands = due_of(message) if message is not None else self._commits.asked(None, offsets or [])
        for place, stand in stands.items():
            if place not in self._reader.positions:
                raise failure("StoreOffsets failed", KafkaError(STATE))
            self._reader.positions[place].stored = stand.offset

    # The cluster

    def get_watermark_offsets(
        self,
        partition: TopicPartition,
        timeout: float | None = None,
        cached: bool = False,  # noqa: FBT001, FBT002 - confluent-kafka's signature
    ) -> tuple[int, int] | None:
        """Return the first offset and the one after the last; None when no answer came."""
        self._check()
        if cached:
            return self._reader.watermarks.get(place_of(partition), (OFFSET_INVALID, OFFSET_INVALID))
        if not self.broker.faults.reaches(self.name):
            self.broker.clock.advance(self._answer_s if timeout is None or timeout < 0 else timeout)
            return None
        try:
            log = self.broker.log(*place_of(partition))
        except Refusal:
            raise failure("Failed to get watermark offsets", KafkaError(UNKNOWN_PARTITION)) from None
        return log.start, self._reader.end(log)

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float | None = None) -> list[TopicPartition]:
        """Return the first offset at or after each partition's moment, in milliseconds; -1: there is none yet."""
        self._check()
        if not self.broker.faults.reaches(self.name):
            self.broker.clock.advance(self._answer_s if timeout is None or timeout < 0 else timeout)
            raise failure("Failed to get offsets", KafkaError(TIMED_OUT))
        logs = [(each, self.broker.log(*place_of(each))) for each in partitions]
        return [TopicPartition(*place_of(each), log.since(each.offset)) for each, log in logs]

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """Return what topics there are."""
        self._check()
        if not self.broker.faults.reaches(self.name):
            self.broker.clock.advance(self._answer_s if timeout < 0 else timeout)
            raise failure("Failed to get metadata", KafkaError(TIMED_OUT))
        return metadata_of(self.broker.topics, topic)

    def memberid(self) -> str:
        """Return the id that the group knows this consumer by; empty: it is no member."""
        self._check()
        return self._who().member

    def consumer_group_metadata(self) -> tuple[str, Credentials]:
        """Return what ``send_offsets_to_transaction`` of a producer in memory takes."""
        self._check()
        return self.group_name, self._who()

    # What its membership tells it

    def changed(self, *, given: set[Place] | None = None, taken: set[Place] | None = None, lost: bool = False) -> None:
        """Queue a change of the assignment for the application."""
        self._changes.add(given if given is not None else taken or set(), given=given is not None, lost=lost)

    def forget(self) -> None:
        """Drop the whole assignment and every change that waits, without a word."""
        self._changes.waiting.clear()
        self._reader.remove(list(self._reader.positions))

    def troubled(self, error: KafkaError) -> None:
        """Queue an error for the application."""
        self._fatal = error if error.code() == FATAL else self._fatal
        self._reader.errors.append(Message(error=error))

    # Inside

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("Consumer closed")

    def _who(self) -> Credentials:
        return NOBODY if self._membership is None else self._membership.who()

    def _fresh_membership(self, application: Application) -> Membership:
        if self._given.text("group.protocol", "classic").lower() == "consumer":
            return ModernMembership(self, application, self.broker.fresh_id(self.name))
        return ClassicMembership(self, application)

    def _leave(self) -> None:
        if self._membership is None:
            return
        try:
            self._membership.leave()
        except Refusal:
            return  # whoever is gone or unreachable cannot say goodbye

    def _serve(self, *, fresh: bool = False) -> None:
        """Run what callbacks are due, and let the membership take one step."""
        self._check()
        self.broker.settle()
        self._polled_at = self.broker.clock.monotonic()
        self._commits.serve()
        self._changes.carry_out(self, self._reader)
        if self._membership is not None:
            self._membership.serve(fresh=fresh)
            self._changes.carry_out(self, self._reader)

    def _check_incremental(self) -> None:
        self._check()
        self._changes.by_hand = True
        if self._membership is not None and not self._membership.incremental:
            text = "Changes to the current assignment must be made using assign() with an eager protocol"
            raise failure(text, KafkaError(STATE))

    def _until(self, timeout: float | None) -> float:
        self._check()
        now = self.broker.clock.monotonic()
        return now + LONGEST_S if timeout is None or timeout < 0 else now + timeout

    def _wait(self, until: float) -> bool:
        """Let time pass until something may have happened; False when there is none left."""
        clock = self.broker.clock
        if (now := clock.monotonic()) >= until:
            return False
        due = self.broker.due() if self._membership is None else min(self.broker.due(), self._membership.due())
        clock.advance_to(max(now, min(due, until)))
        return True
