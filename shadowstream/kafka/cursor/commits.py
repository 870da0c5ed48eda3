"""The windows of the partitions at hand, and what is committed of them; the owner thread only.

Traps:

* A commit that failed is due again on the next tick, as long as the partition is ours
  (``test_a_commit_that_fails_later_for_one_partition_is_tried_again``).
* A commit that is sent again by the client overtakes a later one, and the group steps back: there is one at a time, and
  another only when no answer came for long
  (``test_there_is_one_commit_at_a_time_and_another_when_no_answer_comes``).
* The last commit of a partition has no time to wait so long: it is left out when the one before it is neither answered
  nor seen (``test_no_last_commit_overtakes_one_that_is_not_answered``).
* What is seen to be done may be said once more all the same: its link broke before the answer came, and the client
  waits a moment before it says it again, while questions and later commits pass it
  (``test_a_last_commit_waits_until_the_client_says_nothing_again``).
* Answers come with poll(), which a callback cannot call; a commit that waits for its own answer waits for a minute when
  no broker gives one, and nobody polls meanwhile, not even in another thread. So a callback commits like everybody
  else, and asks where the group stands: that question has a timeout, and comes to the coordinator behind the commit
  (``test_a_revoke_ends_in_time_although_no_commit_is_answered``).
* One snapshot for one commit: offset and metadata are taken together, or the metadata speaks of another offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition

from shadowstream.events import CommitFailed, Lagging, Uncovered
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.offsets import Due
from shadowstream.kafka.transactions import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from threading import Event

    from confluent_kafka import KafkaError

    from shadowstream.kafka.cursor.parts import Parts, Place
    from shadowstream.kafka.offsets import Window

__all__ = ["Commits"]

LEVELS_EVERY_S = 1.0
ANSWER_S = 65.0
"""How long an answer to a commit is waited for before what is finished by then is committed all the same.

Longer than the client's `socket.timeout.ms`: by then it has given up, or is not going to say. While the brokers take no
commit nothing is won by saying another one, and whatever the client kept would be said after it.
"""
AGAIN_S = 0.1
RETRIED_S = 1.25
"""How long the client rests at most before it says something again: `retry.backoff.max.ms` and a fifth, its jitter."""


@dataclass(slots=True)
class Wait:
    """The answers that a partition's last commit still owes."""

    copies: int = 0
    """How often it was said and not answered."""
    said: int = 0
    """How often it was said since all that was said before is answered."""
    until: float = 0.0
    """When something else is committed all the same; monotonic seconds."""


class Commits:
    """Keeps the books of all partitions of one lane's cursor."""

    def __init__(self, parts: Parts) -> None:
        self.windows: dict[Place, Window] = {}
        """The partitions that are ours."""
        self._parts = parts
        self._consumer = parts.consumer
        self._shelves = parts.shelves
        self._rounds = None if parts.transaction is None else Rounds(parts.transaction, parts, self)
        self._now = parts.clock.monotonic
        self._commit_at = 0.0
        self._unanswered: dict[Place, Wait] = {}
        """Where the last commit is not answered yet."""
        self._levels_at = 0.0
        self._throttle = Throttle(logger_of("commits").error)

    def begin(self, stopped: Event) -> None:
        """Do what must be done before anything is read.

        Raises:
            BrokerError: the lane's transactions cannot begin.
        """
        if self._rounds is not None:
            self._rounds.begin(stopped)

    def opened(self, place: Place, window: Window) -> None:
        """Open the books of a partition that is ours from now on."""
        if (shelf := self._shelves.get(place[0])) is not None:
            window.ledger = shelf.ledger()
        self.windows[place] = window

    def tick(self, now: float) -> None:
        """Commit and announce what is due by now.

        Raises:
            BrokerError: the lane's transactions cannot go on.
        """
        if now >= self._commit_at:
            self._commit_at = now + self._parts.settings.commit_every_s
            self.commit(self.windows)
        if self._rounds is not None:
            self._rounds.tick(now)
        if self._parts.listeners and now >= self._levels_at:
            self._levels_at = now + LEVELS_EVERY_S
            self._announce_levels(now)

    def commit(self, places: Iterable[Place]) -> None:
        """Commit what is new in these partitions, in one request, unless the last one is not answered yet.

        Those of transactional topics are committed in turns of their own.
        """
        now = self._now()
        if due := self.due(place for place in self._ordinary(places) if not self._waits(place, now)):
            self._ask(due)

    def finish(self, places: Sequence[Place], until: float) -> None:
        """Commit the last of partitions that are about to go, and see that it is done, at most until a moment."""
        ours = list(self._ordinary(places))
        if self._seen([place for place in ours if place in self._unanswered], until):
            self._say(self.due(ours), until)
        if self._rounds is not None:
            self._rounds.finish(places)

    def answered(self) -> bool:
        """Tell whether no commit waits for its answer."""
        now = self._now()
        return not any(self._waits(place, now) for place in self._unanswered)

    def due(self, places: Iterable[Place]) -> dict[Place, Due]:
        """Return what is new in these partitions and to be committed."""
        due: dict[Place, Due] = {}
        for place in places:
            if (window := self.windows.get(place)) is not None:
                self._settle(place, window)
                if (snapshot := window.due()) is not None:
                    due[place] = snapshot
        return due

    def written_down(self, begun: Iterable[TopicPartition], until: float) -> bool:
        """Commit where partitions begin, also such as are not ours; False when that was not done in time."""
        return self._say({(each.topic, each.partition): Due(each.offset, "", 0) for each in begun}, until)

    def _ordinary(self, places: Iterable[Place]) -> Iterator[Place]:
        return (place for place in places if place[0] not in self._shelves)

    def _waits(self, place: Place, now: float) -> bool:
        wait = self._unanswered.get(place)
        return wait is not None and now < wait.until

    def _seen(self, places: Iterable[Place], until: float) -> bool:
        """Tell whether the commits that were not answered are done all the same, and not to come once more."""
        due: dict[Place, Due] = {}
        for place in places:
            asked = self.windows[place].asked
            # One that was said twice may be seen, and answered once, and its copy is still on its way.
            if asked is None or self._unanswered[place].said > 1:
                return False
            due[place] = asked
        return not due or self._done_for_good(due, until)

    def _done_for_good(self, due: Mapping[Place, Due], until: float) -> bool:
        """Wait until these are seen to be done, and until what the client may still say of them has been said."""
        if not self._came(lambda: self._stands(due, until), until):
            return False
        rested = self._now() + RETRIED_S
        return self._came(lambda: self._now() >= rested, until) and self._stands(due, until)

    def _say(self, due: Mapping[Place, Due], until: float) -> bool:
        """Commit until the group is seen to stand there: the same offset may be said as often as one likes."""

        def said() -> bool:
            self._ask(due)
            return self._stands(due, until)

        return not due or self._came(said, until)

    def _came(self, condition: Callable[[], bool], until: float) -> bool:
        while not (came := condition()) and self._now() < until:
            self._parts.stopping.wait(AGAIN_S)
        return came

    def _stands(self, due: Mapping[Place, Due], until: float) -> bool:
        """Ask the brokers whether the group stands there."""
        if not due:
            return True
        try:
            stands = self._consumer.committed(
                [TopicPartition(*place) for place in due], timeout=max(until - self._now(), AGAIN_S)
            )
        except KafkaException:
            return False
        said = {(each.topic, each.partition): (each.offset, each.metadata or "") for each in stands}
        if any(said.get(place) != (each.offset, each.metadata) for place, each in due.items()):
            return False
        self.settled(None, _offsets(due))
        return True

    def _ask(self, due: Mapping[Place, Due]) -> None:
        until = self._now() + ANSWER_S
        for place, each in due.items():
            if (window := self.windows.get(place)) is not None:
                window.asked = each
            wait = self._unanswered.setdefault(place, Wait())
            wait.copies, wait.said, wait.until = wait.copies + 1, wait.said + 1, until
        offsets = _offsets(due)
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.committed(error.args[0], offsets)

    def committed(self, error: KafkaError | None, partitions: list[TopicPartition] | None) -> None:
        """Take the broker's answer to a commit."""
        for each in partitions or ():
            place = each.topic, each.partition
            if (wait := self._unanswered.get(place)) is not None:
                wait.copies -= 1
                if not wait.copies:
                    del self._unanswered[place]
        self.settled(error, partitions)

    def settled(self, error: KafkaError | None, partitions: list[TopicPartition] | None) -> None:
        """Note how a commit ended, however it was made; what failed is due again, if the partition is still ours."""
        for each in partitions or ():
            window = self.windows.get((each.topic, each.partition))
            failure = error or each.error
            if failure is None:
                if window is not None and window.asked is not None and window.asked.offset == each.offset:
                    window.confirmed = window.asked.finished
                continue
            if window is not None:
                window.asked = None
            where = f"lane={self._parts.lane} topic={each.topic} partition={each.partition} offset={each.offset}"
            self._throttle.say("commit", f"commit_failed {where} error={explained(failure)!r}")
            self._parts.listeners.on(CommitFailed(self._parts.lane, failure.name()))

    def cancel(self, places: Iterable[Place]) -> list[Window]:
        """Start nothing further in these partitions; returns their windows."""
        windows = [self.windows[place] for place in places if place in self.windows]
        for window in windows:
            window.cancel()
        return windows

    def lose(self, places: list[Place]) -> None:
        """Close the books of partitions that are somebody else's by now, and commit nothing."""
        if self._rounds is not None:
            self._rounds.lose(places)
        self.forget(places)

    def forget(self, places: Iterable[Place]) -> None:
        """Close the books of these partitions: what ends later changes nothing."""
        for place in list(places):
            self._unanswered.pop(place, None)
            if (window := self.windows.pop(place, None)) is not None:
                self._settle(place, window)
                if window.ledger is not None:
                    window.ledger.close()
            if self._rounds is not None:
                self._rounds.forget(place)

    def _settle(self, place: Place, window: Window) -> None:
        """Let the window look at its pieces, and count what is known by now."""
        topic, partition = place
        window.settle()
        if known := window.answers():
            self._parts.crews[topic].engine.answered(partition, known)

    def _announce_levels(self, now: float) -> None:
        for level in self._parts.gates.levels(now):
            self._parts.listeners.on(level)
        for (topic, partition), window in self.windows.items():
            high, done = self._high(topic, partition), window.committable()
            if high is not None and done is not None:
                self._parts.listeners.on(Lagging(self._parts.lane, topic, partition, max(high - done, 0)))
            self._parts.listeners.on(Uncovered(self._parts.lane, topic, partition, window.repeated_by_a_crash()))

    def _high(self, topic: str, partition: int) -> int | None:
        try:
            # None on a timeout, whatever the stubs say.
            answer: tuple[int, int] | None = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), cached=True
            )
        except KafkaException:
            return None
        return answer[1] if answer is not None and answer[1] >= 0 else None


def _offsets(due: Mapping[Place, Due]) -> list[TopicPartition]:
    return [TopicPartition(*place, each.offset, each.metadata) for place, each in due.items()]
