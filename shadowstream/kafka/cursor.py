"""One lane's reader: owns the consumer, hands batches to strands, commits what is answered for.

One thread owns the consumer and never runs a handler, so polling goes on whatever handlers do. Traps:

* ``consume(n, timeout)`` waits the whole timeout for n messages: poll for the first, then drain.
* ``pause()`` throws the prefetched messages away: a full topic is first waited for, and paused only when that does not
  help (``test_a_stuck_topic_is_paused_and_polling_goes_on``). We keep our own record, the client has no query.
* A batch may hold messages of a partition that was just revoked: no window, no handling.
* Partitions that are lost get no commit: somebody else owns them already.
* librdkafka calls the revoke callback from close() too: by then there are no windows and it does nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import Message as RawMessage

from shadowstream.errors import BrokerError
from shadowstream.events import CommitFailed, Lagging, Rebalanced, Troubled
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.offsets import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from confluent_kafka import Consumer as RawConsumer
    from confluent_kafka import KafkaError

    from shadowstream.config import WorkerSettings
    from shadowstream.events import Listeners
    from shadowstream.gate import Gates
    from shadowstream.kafka.worker.strands import Strands
    from shadowstream.lane import Lane

    Place = tuple[str, int]

__all__ = ["Cursor", "Parts"]

log = logger_of("cursor")

POLL_S = 0.1
ROOM_S = 0.25
"""How long a full topic is waited for before its partitions are paused."""
STEP_S = 0.005
"""How long the reading waits for the handling at most, while there is a backlog."""
LEVELS_EVERY_S = 1.0


@dataclass(slots=True)
class Parts:
    """Everything a cursor is put together from."""

    lane: Lane
    consumer: RawConsumer
    incremental: bool
    """Whether partitions are assigned one by one (cooperative-sticky, KIP-848)."""
    settings: WorkerSettings
    listeners: Listeners
    gates: Gates
    start_at: Callable[[list[TopicPartition]], list[TopicPartition]]
    """Gives newly assigned partitions the offset to begin at, where the group has none."""
    strands: dict[str, Strands] = field(default_factory=dict)
    """By Kafka topic."""
    stopping: Event = field(default_factory=Event)
    """Wakes strands that rest."""
    room: Event = field(default_factory=Event)
    """Set by strands whenever a piece is finished."""
    failures: list[BaseException] = field(default_factory=list)
    """Errors of ours that ended a strand."""

    def ended(self, failure: BaseException | None) -> None:
        """Take note that a piece is finished, or that a strand failed."""
        if failure is not None:
            self.failures.append(failure)
        self.room.set()


class Cursor:
    """Reads one lane's topics until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._consumer = parts.consumer
        self._windows: dict[Place, Window] = {}
        self._paused: set[str] = set()
        self._commit_at = 0.0
        self._levels_at = 0.0
        self._asked_to_stop = Event()
        self.hung = False
        """Whether a handler was still running when the drain's time was up."""
        self._throttle = Throttle(log.error)

    def run(self) -> None:
        """Read until `stop` is called, then drain, commit and close.

        Raises:
            BrokerError: the client met a fatal error and cannot go on.
        """
        self._consumer.subscribe(
            list(self._parts.strands), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            while not self._asked_to_stop.is_set():
                self.turn()
        finally:
            self._close()

    def stop(self) -> None:
        """Ask the cursor to end; may be called from any thread or signal handler."""
        self._asked_to_stop.set()

    def turn(self) -> None:
        """Do one round: read a batch, hand it over, commit and announce what is due."""
        batch = self._fetched()
        places = _by_place(batch, self._parts.strands)
        for (topic, partition), messages in places.items():
            window = self._windows.get((topic, partition))
            if window is not None:
                # The books first: a strand may finish and empty a piece before put() returns.
                strands = self._parts.strands[topic]
                for strand, piece in strands.pieces(partition, messages):
                    window.opened(piece)
                    strands.put(strand, piece)
        if len(batch) == self._parts.settings.batch:
            self._fall_in_step({topic for topic, _ in places})
        self._make_room()
        self._tick(time.monotonic())
        for failure in self._parts.failures:
            raise BrokerError(f"lane {self._parts.lane}: a strand failed: {failure!r}; see the log above") from failure

    def _fetched(self) -> list[RawMessage]:
        first = self._consumer.poll(POLL_S)
        if first is None:
            return []
        batch = [first, *self._consumer.consume(self._parts.settings.batch - 1, 0)]
        if not any(map(RawMessage.error, batch)):
            return batch
        for message in batch:
            self._troubled(message)
        return [message for message in batch if message.error() is None]

    def _troubled(self, message: RawMessage) -> None:
        error: KafkaError | None = message.error()
        if error is None:
            return
        self._parts.listeners.on(Troubled(self._parts.lane, error.name()))
        where = f"lane={self._parts.lane} topic={message.topic()} partition={message.partition()}"
        self._throttle.say(f"{error.name()} {message.topic()}", f"client_error {where} error={explained(error)!r}")
        if error.fatal():
            raise BrokerError(f"lane {self._parts.lane}: {explained(error)}")

    # Back-pressure: every queue has a bound.

    def _make_room(self) -> None:
        for topic, strands in self._parts.strands.items():
            level = strands.level()
            if topic in self._paused:
                if level < 0.5:  # noqa: PLR2004 - half, so that pausing is rare
                    self._resume([topic])
            elif level >= 1.0 and not self._room_came(strands):
                self._pause(topic)

    def _fall_in_step(self, topics: set[str]) -> None:
        """Wait a moment for these topics' strands when there is a backlog: what is read should be handled soon.

        Messages that wait by the thousand have left the processor's caches when their turn comes, and reading on takes
        the interpreter from the strands besides.
        """
        until = time.monotonic() + STEP_S
        for strands in map(self._parts.strands.__getitem__, topics):
            while strands.waiting() > self._parts.settings.batch and (left := until - time.monotonic()) > 0:
                self._parts.room.clear()
                self._parts.room.wait(left)

    def _room_came(self, strands: Strands) -> bool:
        until = time.monotonic() + ROOM_S
        while strands.level() >= 1.0:
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._parts.room.clear()
            self._parts.room.wait(min(left, 0.05))
        return True

    def _pause(self, topic: str) -> None:
        self._paused.add(topic)
        self._consumer.pause(self._partitions(topic))

    def _resume(self, topics: Iterable[str]) -> None:
        for topic in list(topics):
            self._paused.discard(topic)
            self._consumer.resume(self._partitions(topic))

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for name, partition in self._windows if name == topic]

    # Rebalances: called by the client from within poll() and close(), on the owner thread.

    def _assigned(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        partitions = self._parts.start_at(partitions)
        for each in partitions:
            self._windows[each.topic, each.partition] = Window(each.offset if each.offset >= 0 else None)
        (consumer.incremental_assign if self._parts.incremental else consumer.assign)(partitions)
        # Where a new shadow group begins must outlive a crash before the first tick.
        begun = {place: self._windows[place] for place in _places(partitions)}
        self._commit({place: window for place, window in begun.items() if window.position is not None}, wait=True)
        self._resume(list(self._parts.strands))
        self._announce("assigned", partitions)

    def _revoked(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        self._drain(_places(partitions), self._parts.settings.revoke_s)
        if not self._parts.incremental:
            consumer.unassign()
        else:
            consumer.incremental_unassign(partitions)
        self._announce("revoked", partitions)

    def _lost(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        for place in _places(partitions):
            if (window := self._windows.pop(place, None)) is not None:
                window.cancel()
                window.committable()
                self._count_answers({place: window})
        (consumer.incremental_unassign(partitions) if self._parts.incremental else consumer.unassign())
        self._announce("lost", partitions)

    def _drain(self, places: list[Place], seconds: float) -> bool:
        """Start nothing further here, wait for what runs, commit once, and forget; False when something still runs."""
        windows = {place: self._windows[place] for place in places if place in self._windows}
        for window in windows.values():
            window.cancel()
        until = time.monotonic() + seconds
        while time.monotonic() < until and not all(window.quiet() for window in windows.values()):
            self._serve_outlets()
            self._parts.room.clear()
            self._parts.room.wait(0.01)
        quiet = all(window.quiet() for window in windows.values())
        self._commit(windows, wait=True)
        for place in windows:
            del self._windows[place]
        return quiet

    def _announce(self, change: str, partitions: list[TopicPartition]) -> None:
        places = tuple(_places(partitions))
        log.info("partitions_%s lane=%s partitions=%s", change, self._parts.lane, places)
        self._parts.listeners.on(Rebalanced(self._parts.lane, change, places))

    # Commits

    def _tick(self, now: float) -> None:
        self._serve_outlets()
        if now >= self._commit_at:
            self._commit_at = now + self._parts.settings.commit_every_s
            self._commit(self._windows, wait=False)
        if self._parts.listeners and now >= self._levels_at:
            self._levels_at = now + LEVELS_EVERY_S
            self._announce_levels(now)

    def _serve_outlets(self) -> None:
        for strands in self._parts.strands.values():
            strands.engine.outlets.serve()

    def _commit(self, windows: Mapping[Place, Window], *, wait: bool) -> None:
        due = {place: offset for place, window in windows.items() if (offset := window.due()) is not None}
        self._count_answers(windows)
        if not due:
            return
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in due.items()]
        for place, offset in due.items():
            windows[place].committed = offset
        try:
            if wait:
                self.committed(None, self._consumer.commit(offsets=offsets, asynchronous=False))
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.committed(error.args[0], offsets)

    def _count_answers(self, windows: Mapping[Place, Window]) -> None:
        for (topic, partition), window in windows.items():
            delivered, lost = window.answers()
            if delivered or lost:
                self._parts.strands[topic].engine.answered(partition, delivered, lost)

    def committed(self, error: KafkaError | None, partitions: list[TopicPartition] | None) -> None:
        """Take the broker's answer; what failed is due again on the next tick, if the partition is still ours."""
        for each in partitions or ():
            failure = error or each.error
            if failure is None:
                continue
            if (window := self._windows.get((each.topic, each.partition))) is not None:
                window.committed = None
            where = f"lane={self._parts.lane} topic={each.topic} partition={each.partition} offset={each.offset}"
            self._throttle.say("commit", f"commit_failed {where} error={explained(failure)!r}")
            self._parts.listeners.on(CommitFailed(self._parts.lane, failure.name()))

    def _announce_levels(self, now: float) -> None:
        for level in self._parts.gates.levels(now):
            self._parts.listeners.on(level)
        for (topic, partition), window in self._windows.items():
            high = self._high(topic, partition)
            if high is not None and (done := window.committable()) is not None:
                self._parts.listeners.on(Lagging(self._parts.lane, topic, partition, max(high - done, 0)))

    def _high(self, topic: str, partition: int) -> int | None:
        try:
            # None on a timeout, whatever the stubs say.
            answer: tuple[int, int] | None = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), cached=True
            )
        except KafkaException:
            return None
        return answer[1] if answer is not None and answer[1] >= 0 else None

    def _close(self) -> None:
        # Kept apart from `_drain`: close() below calls `_revoked` once more, and finds nothing left that could hang.
        self.hung = not self._drain(list(self._windows), self._parts.settings.drain_s)
        self._parts.stopping.set()
        for strands in self._parts.strands.values():
            strands.end()
        self._consumer.close()
        log.info("cursor_closed lane=%s", self._parts.lane)


def _places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return [(each.topic, each.partition) for each in partitions]


def _by_place(batch: list[RawMessage], topics: Collection[str]) -> dict[Place, list[RawMessage]]:
    """Group a batch of these topics by partition; nearly every batch is of one, so that is looked at first, in C."""
    if not batch:
        return {}
    # One topic is all that can be there: then nobody is asked for it.
    named: list[str | None] = list(map(RawMessage.topic, batch) if len(topics) > 1 else topics)
    partitions = list(map(RawMessage.partition, batch))
    if partitions.count(partitions[0]) == len(batch) and named.count(named[0]) == len(named):
        return {(named[0], partitions[0]): batch}  # type: ignore[dict-item] # consumed messages have both
    groups: defaultdict[Place, list[RawMessage]] = defaultdict(list)
    for topic, partition, message in zip(map(RawMessage.topic, batch), partitions, batch, strict=True):
        groups[topic, partition].append(message)  # type: ignore[index] # consumed messages have both
    return groups
