"""What must hold, whatever happened: the laws of the design, looked at after each step.

It knows what was sent, hears what handlers do, and reads the broker's logs and commits; it asks the engine nothing.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from shadowstream.events import Outcome
from shadowstream.kafka.offsets import Done
from shadowstream.lane import Lane, Mark, current, current_lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import TopicPartition

    from shadowstream.testing import Broker
    from shadowstream.testing.log import Record
    from tests.unit.simulation.member import Member

T = TypeVar("T")

IN, OUT = "in", "out"
HEADER = "x-shadow"
GROUPS = {Lane.NORMAL: "g", Lane.SHADOW: "g.shadow"}
DEAD = {Lane.NORMAL: f"{IN}.dlq", Lane.SHADOW: f"{IN}.shadow.dlq"}
PARKED = f"{IN}.shadow.parked"
QUARANTINE = f"{IN}.quarantine"
ROUNDED_S = 1e-3
BURST = 2
"""What a limit lets through at once."""
COPIES = (*DEAD.values(), PARKED, QUARANTINE)


class BrokenLawError(AssertionError):
    """A law does not hold."""


@dataclass(slots=True)
class Sent:
    """One message that was produced."""

    number: int
    lane: Lane
    """Whose cursor answers for it."""
    partition: int
    offset: int
    key: bytes | None
    mark: bytes | None
    acts: list[list[Any]]
    bad: bool = False
    expires_at: float | None = None
    begun: int = 0
    finished: int = 0

    @property
    def emits(self) -> bool:
        return ["emit"] in self.acts


@dataclass(slots=True)
class Books:
    """How far one group's commits in one partition were looked at."""

    verified: int = 0
    committed: int = -1


@dataclass
class Oracle:
    """Judges one history."""

    broker: Broker
    sent: dict[tuple[int, int], Sent] = field(default_factory=dict)
    emitted: set[int] = field(default_factory=set)
    copied: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    counts: dict[Lane, Counter[Outcome]] = field(default_factory=lambda: {lane: Counter() for lane in Lane})
    sheds: bool = False
    """Whether a refused message may be gone without a trace, but for its count."""
    excuses: set[str] = field(default_factory=set)
    """What went wrong that justifies handling a message twice."""
    in_flight: int = 0
    """What was finished and not committed, or running, when processes were killed."""
    first: dict[tuple[Lane, int], int] = field(default_factory=dict)
    """Where a lane first began: what was in a partition before is not its business."""
    trouble: list[str] = field(default_factory=list)
    """What was found inside a handler, where raising is no use: the engine would take it as the handler's failure."""
    _books: dict[tuple[Lane, int], Books] = field(default_factory=lambda: defaultdict(Books))
    _looked_at: Counter[str] = field(default_factory=Counter)
    _logs: dict[str, list[Record]] = field(init=False)

    def __post_init__(self) -> None:
        self._logs = {topic: self.broker.log(topic).records for topic in (OUT, *COPIES)}

    def by_number(self, number: int) -> Sent:
        return next(sent for sent in self.sent.values() if sent.number == number)

    # What members tell

    def reads_from(self, lane: Lane, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            self.first.setdefault((lane, each.partition), max(each.offset, 0))

    def begins(self, member: Member, message: Any, now: float) -> Sent:
        sent = self.sent[message.partition(), message.offset()]
        sent.begun += 1
        self.in_lane(member, sent, "when its handler began")
        if sent.bad:
            self.trouble.append(f"law 3: {sent} has a mark that cannot be trusted, and {member} handles it")
        if sent.expires_at is not None and now > sent.expires_at + ROUNDED_S:
            self.trouble.append(f"law 4: {sent} has expired, and {member} handles it")
        return sent

    def in_lane(self, member: Member, sent: Sent, when: str) -> None:
        expected = None if sent.mark is None else sent.mark.split(b"run=")[-1].split(b";")[0].decode()
        mark: Mark | None = current()
        run = None if mark is None else mark.run or "1"
        if (sent.lane, expected) != (current_lane(), run) or sent.lane is not member.lane:
            self.trouble.append(f"law 2: {sent} is in lane {current_lane()} of {member}, run {run}, {when}")

    # What the broker shows

    def look(self) -> None:
        """Look at whatever is new in the broker's logs and commits."""
        if self.trouble:
            raise BrokenLawError(self.trouble[0])
        self._outputs()
        for topic in COPIES:
            for record in self._fresh(topic, self._logs[topic]):
                self._copy(topic, record)
        for lane in Lane:
            for place, stand in self._fresh(lane, self.broker.offsets[GROUPS[lane]].history):
                self._commit(lane, place[1], stand.offset, stand.metadata)

    def _fresh(self, name: str, entries: list[T]) -> Sequence[T]:
        looked_at, self._looked_at[name] = self._looked_at[name], len(entries)
        return entries[looked_at:] if looked_at < len(entries) else ()

    def _outputs(self) -> None:
        for record in self._fresh(OUT, self._logs[OUT]):
            number = json.loads(record.value or b"null")
            sent = self.by_number(number)
            marks = [value for name, value in record.headers or () if name == HEADER]
            if bool(marks) is not (sent.lane is Lane.SHADOW) or not all(_same_run(each, sent.mark) for each in marks):
                raise BrokenLawError(f"law 2: an output of {sent} carries {marks}")
            self.emitted.add(number)

    def _copy(self, topic: str, record: Record) -> None:
        number = json.loads(record.value or b"null")["id"]
        sent = self.by_number(number)
        marks = [value for name, value in record.headers or () if name == HEADER]
        if sent.mark not in (marks or [None]):
            raise BrokenLawError(f"law 2: the copy of {sent} in {topic} carries {marks}")
        if topic in DEAD.values() and topic != DEAD[sent.lane]:
            raise BrokenLawError(f"law 5: the dead letter of {sent} is in {topic}")
        if topic == PARKED and sent.lane is Lane.NORMAL:
            raise BrokenLawError(f"law 1: {sent} is parked")
        if topic == QUARANTINE and not sent.bad:
            raise BrokenLawError(f"law 3: {sent} is quarantined and there is nothing wrong with it")
        self.copied[topic].add(number)

    def _commit(self, lane: Lane, partition: int, offset: int, metadata: str | None) -> None:
        books = self._books[lane, partition]
        # Where a shadow group begins is committed before it reads.
        books.verified = max(books.verified, self.first.setdefault((lane, partition), offset))
        if offset < books.committed:
            before = books.committed
            raise BrokenLawError(f"law 8: lane {lane} committed {offset} in partition {partition} after {before}")
        books.committed = offset
        for each in range(books.verified, offset):
            self._answered(lane, partition, each, f"the commit of {offset}")
        books.verified = max(books.verified, offset)
        done = Done.read(metadata, offset)
        for each in range(offset, done.end):
            if each in done:
                self._answered(lane, partition, each, f"what is said to be done above the commit of {offset}")

    def _answered(self, lane: Lane, partition: int, offset: int, passed_by: str) -> None:
        sent = self.sent.get((partition, offset))
        if sent is not None and sent.lane is lane and not self.answered(sent):
            raise BrokenLawError(f"law 8: {sent} is not answered for, and {passed_by} in {partition} passes it")

    def answered(self, sent: Sent) -> bool:
        """Tell whether a message has come to an end that everybody can see."""
        if sent.number in self.copied[DEAD[sent.lane]] | self.copied[PARKED] | self.copied[QUARANTINE]:
            return True
        if sent.expires_at is not None and self.broker.clock.time() > sent.expires_at - ROUNDED_S:
            return True
        if self.sheds and sent.lane is Lane.SHADOW and not (sent.bad or sent.finished):
            return True
        return sent.finished > 0 and (not sent.emits or sent.number in self.emitted)

    def arrived(self, lane: Lane) -> bool:
        """Tell whether a lane has committed all there is: gaps in the offsets do not stall it."""
        stands = self.broker.offsets[GROUPS[lane]].stands
        ends = {place: self._end(lane, *place) for place in self.broker.logs if place[0] == IN}
        return all(end == 0 or (place in stands and stands[place].offset >= end) for place, end in ends.items())

    def _end(self, lane: Lane, topic: str, partition: int) -> int:
        # Behind the last record there may be a gap, and no consumer hears of it before the next record.
        records = self.broker.log(topic, partition).records
        return records[-1].offset + 1 if records else 0

    # At a quiet point

    def quiet(self) -> None:
        """See that nothing is lost, nothing is repeated without a reason, and each message is counted once."""
        self.look()
        for lane in Lane:
            ours = [sent for sent in self.sent.values() if self._of(lane, sent)]
            for sent in ours:
                if not self.answered(sent):
                    raise BrokenLawError(f"law 9: {sent} is lost")
            self._repeated(ours)
            self._counted(lane, ours)

    def _of(self, lane: Lane, sent: Sent) -> bool:
        return sent.lane is lane and sent.offset >= self.first[lane, sent.partition]

    def _repeated(self, ours: list[Sent]) -> None:
        again = sum(max(sent.finished - 1, 0) for sent in ours)
        if not self.excuses and again:
            raise BrokenLawError(f"law 9: nothing went wrong, and {again} messages were handled again")
        if self.excuses == {"crash"} and again > self.in_flight:
            raise BrokenLawError(f"law 9: {self.in_flight} messages were in flight, and {again} were handled again")

    def _counted(self, lane: Lane, ours: list[Sent]) -> None:
        counted = sum(self.counts[lane].values())
        if "crash" not in self.excuses and counted < len(ours):
            raise BrokenLawError(f"law 13: {len(ours)} messages of lane {lane} ended, and {counted} were counted")
        if self.excuses:
            return
        bad, dead = sum(sent.bad for sent in ours), len(self.copied[DEAD[lane]])
        found = self.counts[lane]
        done, parked = sum(sent.finished > 0 for sent in ours), len(self.copied[PARKED]) if lane is Lane.SHADOW else 0
        if (found[Outcome.HANDLED], found[Outcome.PARKED]) != (done, parked):
            raise BrokenLawError(f"law 13: {done} of lane {lane} were handled, {parked} parked; counted: {found}")
        if counted != len(ours) or found[Outcome.QUARANTINED] != bad or found[Outcome.FAILED] != dead:
            every = len(ours)
            raise BrokenLawError(f"law 13: {every} messages of lane {lane}, {bad} bad, {dead} failed; counted: {found}")


def _same_run(mark: bytes | None, original: bytes | None) -> bool:
    return mark is not None and original is not None and _run(mark) == _run(original)


def _run(mark: bytes) -> bytes:
    return mark.split(b"run=")[-1].split(b";")[0]
