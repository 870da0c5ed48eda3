"""Polls, hands over, pauses, meets rebalances.

One thread at a time polls, and none that is held up by a handler, so polling goes on whatever handlers do (`helm`).
It is called the owner thread, whoever it is. Traps:

* ``consume(n, timeout)`` waits the whole timeout for n messages: poll for the first, then drain.
* ``pause()`` throws the prefetched messages away: a full topic is first waited for, and paused only when that does not
  help (``test_a_stuck_topic_is_paused_and_polling_goes_on``). We keep our own record, the client has no query.
* A partition that comes back is still paused, and a new one of a full topic is not: both are said anew
  (``test_after_a_rebalance_a_full_topic_stays_paused_and_the_others_are_not``).
* A batch may hold messages of a partition that was just revoked: no window, no handling.
* Partitions that are lost get no commit: somebody else owns them already.
* A static member that another one replaced is told so by an error that does not say ``fatal()``, and by no callback
  (``test_a_lane_ends_when_its_static_member_is_replaced``).
* A coordinator that moves refuses at once to say where the lane stands, and says it a moment later
  (``test_a_coordinator_that_moves_is_asked_again_where_the_lane_stands``).
* Where a new shadow group begins must outlive a crash before the first tick: it reads nothing before that is committed
  (``test_a_shadow_lane_reads_nothing_before_it_is_committed_where_it_begins``).
* close() gives partitions too, when the group is shared out anew just then
  (``test_partitions_that_are_given_to_a_lane_that_ends_are_taken_and_not_asked_for``).
* While the group is shared out anew a commit is refused for a moment, and the last one has no next tick
  (``test_a_last_commit_that_is_refused_is_tried_again``).
* A handler may outlive its partition: a stop waits for it, or it would be cut off half-way
  (``test_a_stop_waits_for_a_handler_that_outlived_its_partition``).
* librdkafka calls the revoke callback from close() too: by then there are no windows and it does nothing.
"""

from __future__ import annotations

from collections import defaultdict
from threading import Event
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka import Message as RawMessage

from shadowstream.errors import BrokerError
from shadowstream.events import Rebalanced, Troubled
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.cursor.commits import Commits
from shadowstream.kafka.cursor.helm import Helm
from shadowstream.kafka.offsets import Piece, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from confluent_kafka import Consumer as RawConsumer

    from shadowstream.config import LaneSettings
    from shadowstream.kafka.cursor.parts import Beginning, Parts, Place
    from shadowstream.kafka.engine.settling import ByHand
    from shadowstream.kafka.strands import Crew
    from shadowstream.kafka.strands.hands import Leader

__all__ = ["Cursor"]

log = logger_of("cursor")

POLL_S = 0.1
ROOM_S = 0.25
"""How long a full topic is waited for before its partitions are paused."""
STEP_S = 0.005
"""How long the reading waits for the handling at most, while there is a backlog."""
BEGIN_S = 10.0
"""How long it is asked for where the lane stands, and a new group's beginning is committed; a rebalance waits."""
AGAIN_S = 0.1


class Cursor:
    """Reads one lane's topics until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.gates = parts.gates
        """The lane's gates."""
        self._consumer = parts.consumer
        self._now = parts.clock.monotonic
        self._commits = Commits(parts)
        self.committed = self._commits.committed
        self._windows = self._commits.windows
        self._paused: set[str] = set()
        self._asked_to_stop = Event()
        self.hung = False
        """Whether a handler was still running when the drain's time was up."""
        self._throttle = Throttle(log.error)

    def run(self) -> None:
        """Read until `stop` is called, then drain, commit and close.

        Raises:
            BrokerError: the client met a fatal error and cannot go on.
        """
        self.begin()
        try:
            while not self._asked_to_stop.is_set():
                self.turn()
        finally:
            self.close()

    def stop(self) -> None:
        """Ask the cursor to end; may be called from any thread or signal handler."""
        self._asked_to_stop.set()

    def adopt(self, settings: LaneSettings) -> None:
        """Go on by other limits, from the next decision on; called from any thread."""
        self._parts.gates.adopt(settings, self._now())
        for crew in self._parts.crews.values():
            crew.engine.regate()

    def places(self) -> list[Place]:
        """Return the partitions that are read now; called from any thread."""
        return list(self._windows)

    def begin(self) -> None:
        """Join the group.

        Raises:
            BrokerError: the lane's transactions cannot begin.
        """
        self._commits.begin(self._asked_to_stop)
        self._consumer.subscribe(
            list(self._parts.crews), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def turn(self) -> None:
        """Do one round: read a batch, hand it over, commit and announce what is due.

        A hand that has nothing to do is given the batch, and goes on with the next ones until it has or is relieved.
        """
        batch = self._fetched()
        topic = str(batch[0].topic()) if batch else ""
        leader = self._parts.crews[topic].leader() if topic else None
        pieces = self._deal(batch, topic if leader is not None else "")
        if leader is not None and pieces:
            # Taken while the hand still has the helm: whoever polls after it must find them before his own.
            helm = Helm(lambda: self._led(leader, topic), self._now, self._parts.back)
            leader.lead(pieces, helm)
            helm.wait()

    def _led(self, leader: Leader, topic: str) -> list[Piece]:
        """Do one round for the hand that has the helm; nothing when the lane is to end, also while messages come on."""
        return [] if self._asked_to_stop.is_set() else leader.taken(self._deal(self._fetched(), topic))

    def _deal(self, batch: list[RawMessage], kept: str = "") -> list[Piece]:
        """Hand a batch over, commit and announce what is due; returns one topic's pieces that are not handed over."""
        places = _by_place(batch, self._parts.crews)
        ours: list[Piece] = []
        for (topic, partition), messages in places.items():
            window = self._windows.get((topic, partition))
            if window is not None and window.passed(messages):
                window = self._anew((topic, partition), messages[0])
            if window is None or not (fresh := window.fresh(messages)):
                continue
            crew = self._parts.crews[topic]
            pieces = crew.pieces(partition, fresh)
            # The books first: a hand may finish and empty a piece before put() returns.
            for piece in pieces:
                window.opened(piece)
            if topic == kept:
                ours += pieces
            else:
                crew.put(pieces)
        if len(batch) == self._parts.settings.batch:
            self._fall_in_step({topic for topic, _ in places if topic != kept and not self._rests(topic)})
        self._make_room()
        self._tick(self._now())
        for failure in self._parts.failures:
            raise BrokerError(f"lane {self._parts.lane}: a hand failed: {failure!r}; see the log above") from failure
        return ours

    def _anew(self, place: Place, first: RawMessage) -> Window:
        """Open the books anew for a log that went back; what still runs of the old one changes nothing."""
        old, offset = self._windows[place].position, first.offset()
        log.warning("log_went_back lane=%s partition=%s from=%s to=%s", self._parts.lane, place, old, offset)
        self._commits.cancel([place])
        self._commits.lose([place])
        self._recall()
        self._commits.opened(place, window := Window(offset))
        return window

    def _tick(self, now: float) -> None:
        self._serve()
        self._commits.tick(now)

    def _serve(self) -> None:
        """Let each topic's engine do what it owes, and hand over again what was asked for."""
        for topic, crew in self._parts.crews.items():
            crew.engine.serve()
            for message in crew.engine.desk.due():
                self._once_more(topic, message, crew)

    def _once_more(self, topic: str, message: ByHand, crew: Crew) -> None:
        window = self._windows.get((topic, message.raw.partition() or 0))
        if window is None or message.piece.cancelled:
            return
        piece = Piece([message.raw])
        window.opened(piece, again=True)
        message.let_go()
        crew.put([piece])

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
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - the client's own name for it
            raise BrokerError(f"lane {self._parts.lane}: {explained(error)}")

    # Back-pressure: every queue has a bound.

    def _make_room(self) -> None:
        for topic, crew in self._parts.crews.items():
            level = crew.level()
            if topic in self._paused:
                if level < 0.5:  # noqa: PLR2004 - half, so that pausing is rare
                    self._resume(topic)
            elif level >= 1.0 and (self._rests(topic) or not self._room_came(crew)):
                self._pause(topic)

    def _fall_in_step(self, topics: set[str]) -> None:
        """Wait a moment for these topics' hands when there is a backlog: what is read should be handled soon.

        Messages that wait by the thousand have left the processor's caches when their turn comes, and reading on takes
        the interpreter from the hands besides.
        """
        until = self._now() + STEP_S
        for crew in map(self._parts.crews.__getitem__, topics):
            while crew.waiting() > self._parts.settings.batch and (left := until - self._now()) > 0:
                self._parts.room.clear()
                self._parts.room.wait(left)

    def _rests(self, topic: str) -> bool:
        """Tell whether a topic's messages rest, so that room among them does not come in a moment."""
        return self._parts.crews[topic].engine.binding.returns

    def _room_came(self, crew: Crew) -> bool:
        until = self._now() + ROOM_S
        while crew.level() >= 1.0:
            left = until - self._now()
            if left <= 0:
                return False
            self._parts.room.clear()
            self._parts.room.wait(min(left, 0.05))
        return True

    def _pause(self, topic: str) -> None:
        self._paused.add(topic)
        self._consumer.pause(self._partitions(topic))

    def _resume(self, topic: str) -> None:
        self._paused.discard(topic)
        self._consumer.resume(self._partitions(topic))

    def _tell_paused(self) -> None:
        """Say anew what is paused: a partition may have come back as it went."""
        for topic in self._parts.crews:
            told = self._consumer.pause if topic in self._paused else self._consumer.resume
            told(self._partitions(topic))

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for name, partition in self._windows if name == topic]

    # Rebalances: called by the client from within poll() and close(), on the owner thread.

    def _assigned(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        # What is given to a lane that ends is taken, so that the group goes on, and not read.
        places = partitions if self._asked_to_stop.is_set() else self._opened(partitions)
        (consumer.incremental_assign if self._parts.incremental else consumer.assign)(places)
        self._tell_paused()
        self._announce("assigned", partitions)

    def _opened(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Open the books of new partitions; returns where each is to be read from."""
        until = self._now() + BEGIN_S
        known, begun = self._beginning(partitions, until)
        ours = set(_places(partitions))
        mine = [each for each in begun if (each.topic, each.partition) in ours]
        for each in known:
            self._commits.opened((each.topic, each.partition), Window.after(each.offset, each.metadata))
        for each in mine:
            self._commits.opened((each.topic, each.partition), Window(each.offset))
        self._write_down(begun, until)
        return [*known, *mine]

    def _beginning(self, partitions: list[TopicPartition], until: float) -> Beginning:
        """Ask where the lane stands until it is said: a coordinator that moves refuses it for a moment."""
        while not (last := self._now() >= until):
            try:
                return self._parts.start_at(partitions, last)
            except BrokerError:
                self._parts.stopping.wait(AGAIN_S)
        return self._parts.start_at(partitions, last)

    def _write_down(self, begun: list[TopicPartition], until: float) -> None:
        """Commit where a new shadow group begins before it reads: after a crash it would begin somewhere else."""
        if not self._commits.written_down(begun, until):
            raise BrokerError(f"lane {self._parts.lane}: where it begins cannot be committed; see the log above")

    def _revoked(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        self._drain(_places(partitions), self._now() + self._parts.settings.revoke_s)
        (consumer.incremental_unassign(partitions) if self._parts.incremental else consumer.unassign())
        self._announce("revoked", partitions)

    def _lost(self, consumer: RawConsumer, partitions: list[TopicPartition]) -> None:
        self._commits.cancel(_places(partitions))
        self._commits.lose(_places(partitions))
        self._recall()
        (consumer.incremental_unassign(partitions) if self._parts.incremental else consumer.unassign())
        self._announce("lost", partitions)

    def _drain(self, places: list[Place], until: float) -> bool:
        """Start nothing further here, wait for what runs, commit, and forget; False when something still runs."""
        windows = self._commits.cancel(places)
        self._recall()
        quiet = self._came(lambda: all(window.quiet() for window in windows), until)
        self._commits.finish(places, until)
        self._commits.forget(places)
        return quiet

    def _idle(self) -> bool:
        """Tell whether no handler runs, those that outlived their partition among them."""
        return not any(crew.waiting() for crew in self._parts.crews.values())

    def _came(self, condition: Callable[[], bool], until: float, *, polling: bool = False) -> bool:
        """Wait for what hands and delivery reports bring about; False when it did not come in time."""
        while not (came := condition()) and self._now() < until:
            self._serve()
            if polling:
                # What is read now has no window that would be handled; the next owner reads it again.
                self._consumer.poll(0)
            self._parts.room.clear()
            self._parts.room.wait(0.01)
        return came

    def _recall(self) -> None:
        for crew in self._parts.crews.values():
            crew.recall()

    def _announce(self, change: str, partitions: list[TopicPartition]) -> None:
        places = tuple(_places(partitions))
        log.info("partitions_%s lane=%s partitions=%s", change, self._parts.lane, places)
        self._parts.listeners.on(Rebalanced(self._parts.lane, change, places))

    def close(self) -> None:
        """Drain, commit, and leave the group."""
        self.stop()
        until = self._now() + self._parts.settings.drain_s
        windows = self._commits.cancel(self._windows)
        self._recall()
        # Here one can poll: the group goes on while handlers end, and the last commit need not guess.
        self._came(lambda: self._commits.answered() and all(map(Window.quiet, windows)), until, polling=True)
        quiet = self._drain(list(self._windows), until)
        # Kept apart from `_drain`: close() below calls `_revoked` once more, and finds nothing left that could hang.
        self.hung = not self._came(self._idle, until, polling=True) or not quiet
        self._parts.stopping.set()
        try:
            self._consumer.close()
        finally:
            # Last: the client may still tell of partitions that are lost, and what rests in them is woken.
            for crew in self._parts.crews.values():
                crew.end()
            self._parts.gates.close()
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
