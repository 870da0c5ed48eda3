"""One consumer's commits: what is asked for, and the answers that wait for the next poll()."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message, TopicPartition

from shadowstream.testing.answers import NO_OFFSET, FailedPartition, Place, Refusal, failure, partition_at, place_of
from shadowstream.testing.groups import Credentials, Stand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shadowstream.testing.broker import Broker
    from shadowstream.testing.clients.reader import Reader

    OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]
    Answer = tuple[KafkaError | None, list[TopicPartition]]

__all__ = ["Commits", "due_of"]


class Asked(NamedTuple):
    """A commit that was asked for, by the member that the consumer was then."""

    who: Credentials
    stands: Mapping[Place, Stand]


@dataclass(slots=True)
class Commits:
    """The commits of one consumer, in their order."""

    broker: Broker
    reader: Reader
    who: Callable[[], Credentials]
    on_commit: OnCommit | None = None
    known: dict[Place, int] = field(default_factory=dict)
    """What this consumer last committed: a commit() without arguments leaves that out."""
    _waiting: deque[Asked] = field(default_factory=deque)
    """Not sent yet; only while the broker's faults say ``slow_commits``."""
    _stuck: list[tuple[float, Asked]] = field(default_factory=list)
    """Sent to a broker that stands still, and when each is sent again: behind whatever was sent meanwhile."""
    _answers: deque[Answer] = field(default_factory=deque)

    def asked(self, message: Message | None, offsets: Iterable[TopicPartition] | None) -> dict[Place, Stand]:
        """Return what a call of commit() is about; empty: nothing to commit."""
        if message is not None and offsets is not None:
            raise ValueError("message and offsets are mutually exclusive")
        if message is not None:
            return due_of(message)
        if offsets is not None:
            return {place_of(each): Stand(each.offset, each.metadata) for each in offsets if each.offset >= 0}
        return {
            place: Stand(position.stored)
            for place, position in self.reader.positions.items()
            if position.stored > self.known.get(place, OFFSET_INVALID)
        }

    def later(self, stands: dict[Place, Stand]) -> None:
        """Commit without waiting: the answer goes to ``on_commit``, from a later `serve`."""
        if not stands:
            self._answers.append((KafkaError(NO_OFFSET), []))
            return
        asked, faults = Asked(self.who(), stands), self.broker.faults
        if faults.stuck_commits_s:
            again_at = self.broker.clock.monotonic() + faults.stuck_commits_s.popleft()
            self._stuck.append((again_at, asked))
            return
        self._waiting.append(asked)
        if not faults.slow_commits:
            self.send()

    def now(self, stands: dict[Place, Stand]) -> list[TopicPartition]:
        """Commit and wait for the answer.

        Raises:
            KafkaException: one of the partitions was refused, or all were, or no answer came.
        """
        self.send()
        if not stands:
            raise failure("Commit failed", KafkaError(NO_OFFSET))
        error, partitions = self._sent(Asked(self.who(), stands))
        if error is not None:
            raise failure("Commit failed", error)
        return partitions

    def serve(self) -> None:
        """Hand out the answers that were there before this call, then send what waits."""
        for _ in range(len(self._answers)):
            error, partitions = self._answers.popleft()
            if self.on_commit is not None:
                self.on_commit(error, partitions)
        now = self.broker.clock.monotonic()
        self._send_again([each for each in self._stuck if each[0] <= now])
        self.send()

    def send(self) -> None:
        """Send what waits, before any other request."""
        while self._waiting:
            self._answers.append(self._sent(self._waiting.popleft()))

    def wait(self) -> None:
        """Let each commit come to the broker: the client gives no partition back before all are answered."""
        self.send()
        self._send_again(self._stuck)

    def _send_again(self, stuck: Sequence[tuple[float, Asked]]) -> None:
        for each in list(stuck):
            self._stuck.remove(each)
            self._answers.append(self._sent(each[1]))

    def _sent(self, asked: Asked) -> Answer:
        manner, stands = self.reader.manner, asked.stands
        try:
            refused = self.broker.commit(manner.client, manner.group, asked.who, stands)
        except Refusal as refusal:
            refused = dict.fromkeys(stands, refusal.code)
        for place in stands.keys() - refused.keys():
            self.known[place] = stands[place].offset
        answered = [partition_at(place, stand.offset, stand.metadata) for place, stand in stands.items()]
        if not refused:
            return None, answered
        # The library blames every partition for one that failed, also those that the broker has committed.
        error = KafkaError(next(reversed(refused.values())))
        return error, [FailedPartition(each, error) for each in answered]


def due_of(message: Message) -> dict[Place, Stand]:
    """Return the offset after a message.

    Raises:
        KafkaException: the message is an error.
    """
    if (error := message.error()) is not None:
        raise KafkaException(error)
    return {(message.topic() or "", message.partition() or 0): Stand((message.offset() or 0) + 1)}
