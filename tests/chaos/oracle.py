"""What must hold, judged from Kafka's own word and the journals alone; pure, so that each check can be seen to fail.

Kafka says what is in the log, which copies were made and where the groups stood; the journals say what handlers did.
Nothing that the worker says of itself is believed, except where it is compared with these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from tests.chaos.records import Entry, Journals, Kind, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Place = tuple[str, int]
Positions = dict[Place, int]

LANES = ("n", "s")
COPIES_OF = {Kind.POISON: "dlq", Kind.GARBLED: "quarantine"}
WITHOUT_EVIDENCE = frozenset({Kind.EXPIRED, Kind.GARBLED})
"""Kinds of which no journal says when they were done with."""
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Logged:
    """One message as it lies in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes
    order: Order

    @property
    def place(self) -> Place:
        """Its partition."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Acked:
    """What the producer was told of one message."""

    topic: str
    partition: int
    offset: int | None
    """None: the leader had it already from an attempt before, and did not say where."""
    at_ns: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of one lane's group, made at ``at_ns`` or a millisecond before."""

    lane: str
    place: Place
    position: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one lane's group stood; the answer came at ``at_ns``."""

    lane: str
    at_ns: int
    positions: Positions


@dataclass(slots=True)
class Evidence:
    """Everything that is judged."""

    log: list[Logged]
    acked: dict[int, Acked]
    journals: Journals
    copies: dict[str, Counter[int]]
    """Numbers of the messages in ``dlq``, ``quarantine`` and ``parked`` topics."""
    commits: list[Commit]
    """All of them, in the order in which they were made."""
    calm_stops: list[Stand] = field(default_factory=list)
    """Where groups stood after every worker had ended in order while there was work left."""
    final: list[Stand] = field(default_factory=list)
    """Where groups stood after everything was said to be done and every worker had ended in order."""
    keyed: frozenset[str] = frozenset()
    """Topics whose order is kept by key, not by partition."""
    parking: frozenset[str] = frozenset()
    """Topics whose shadow messages may be parked."""
    troubles: list[str] = field(default_factory=list)
    """What the run itself saw go wrong: a worker that did not end, a lane that died by itself."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must hold and does not."""

    law: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.law}: {self.count}, for example {'; '.join(self.examples)}"


class Case:
    """The evidence, put in order once for all checks."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.by_number = {each.order.number: each for each in evidence.log}

    @cached_property
    def handled(self) -> list[Entry]:
        """What was handled, in the order of time."""
        entries = self.evidence.journals.entries
        return sorted((each for each in entries if each.what == "handled"), key=lambda each: each.at_ns)

    @cached_property
    def first(self) -> dict[int, Entry]:
        """The first handling of each message in its own lane."""
        found: dict[int, Entry] = {}
        for each in self.handled:
            if (logged := self.by_number.get(each.number)) is not None and logged.order.lane == each.lane:
                found.setdefault(each.number, each)
        return found

    @cached_property
    def ended_ns(self) -> dict[int, int]:
        """When each message was first done with, or at least tried for the first time where it always fails."""
        found: dict[int, int] = {}
        for each in self.evidence.journals.entries:
            found[each.number] = min(each.at_ns, found.get(each.number, each.at_ns))
        return found

    @cached_property
    def by_place(self) -> dict[tuple[str, Place], list[Logged]]:
        """Each lane's messages of each partition, in the order of the log."""
        found: defaultdict[tuple[str, Place], list[Logged]] = defaultdict(list)
        for each in self.evidence.log:
            found[each.order.lane, each.place].append(each)
        for messages in found.values():
            messages.sort(key=lambda each: each.offset)
        return found

    @cached_property
    def commits(self) -> dict[tuple[str, Place], list[tuple[int, int]]]:
        """Each lane's commits of each partition, in the order in which they were made: position and time."""
        found: defaultdict[tuple[str, Place], list[tuple[int, int]]] = defaultdict(list)
        for each in self.evidence.commits:
            found[each.lane, each.place].append((each.position, each.at_ns))
        return found

    @cached_property
    def unanswered(self) -> set[str]:
        """Lanes of which a commit got no answer in time."""
        told = self.evidence.journals.told
        return {each.lane for each in told if (each.what, each.name) == ("commit-failed", "_TIMED_OUT")}

    def outcomes(self, number: int) -> set[str]:
        """Return the ways in which a message ended, by durable evidence."""
        ways = {what for what, numbers in self.evidence.copies.items() if number in numbers}
        return ways | ({"handled"} if number in self.first else set())

    def untold(self, message: Logged) -> bool:
        """Tell whether nothing says when this message was done with."""
        return message.order.kind in WITHOUT_EVIDENCE or message.order.number in self.evidence.copies["parked"]


def judged(evidence: Evidence) -> list[Violation]:
    """Return everything that does not hold."""
    case = Case(evidence)
    return [violation for check in CHECKS if (violation := _violation(check, case)) is not None]


def _violation(check: Callable[[Case], Iterable[str]], case: Case) -> Violation | None:
    found = list(check(case))
    law = (check.__doc__ or "").strip().rstrip(".")
    return Violation(law, len(found), tuple(found[:EXAMPLES])) if found else None


# --- the checks: what is found speaks against the sentence ------------------------------------------------------------


def kafka_keeps_what_it_acknowledged(case: Case) -> Iterator[str]:
    """Kafka itself keeps every message that it acknowledged."""
    # A set: an idempotent producer whose leader dies may still write one twice, and is told of one of them.
    there: set[tuple[int, Place, int | None]]
    there = {(each.order.number, each.place, each.offset) for each in case.evidence.log}
    there |= {(each.order.number, each.place, None) for each in case.evidence.log}
    for number, told in case.evidence.acked.items():
        if (number, (told.topic, told.partition), told.offset) not in there:
            yield f"{number} at {told}"


def no_message_is_lost(case: Case) -> Iterator[str]:
    """Every message in the log ends as its kind asks, in its own lane."""
    for logged in case.evidence.log:
        order = logged.order
        if not case.outcomes(order.number) and order.kind is not Kind.EXPIRED:
            yield f"{order} in {logged.topic}[{logged.partition}]@{logged.offset}"


def each_message_has_its_outcome(case: Case) -> Iterator[str]:
    """No message ends in a way that its kind does not allow."""
    for logged in case.evidence.log:
        outcomes = case.outcomes(logged.order.number)
        # One that is read again after a crash may be parked this time: two ways are no fault in themselves.
        if not outcomes <= _allowed(logged.order):
            yield f"{logged.order} in {logged.topic}[{logged.partition}]@{logged.offset} as {sorted(outcomes)}"


def _allowed(order: Order) -> set[str]:
    parked = {"parked"} if order.lane == "s" else set()
    match order.kind:
        case Kind.EXPIRED:
            return set()
        case Kind.POISON:
            return {COPIES_OF[order.kind]} | parked
        case Kind.GARBLED:
            return {COPIES_OF[order.kind]}
        case _:
            return {"handled"} | parked


def no_message_changes_its_lane(case: Case) -> Iterator[str]:
    """No handler ever sees a message in the other lane."""
    for entry in case.evidence.journals.entries:
        logged = case.by_number.get(entry.number)
        if logged is not None and logged.order.lane != entry.lane:
            yield f"{logged.order} was {entry.what} in lane {entry.lane} by {entry.process}"


def order_is_kept(case: Case) -> Iterator[str]:
    """First handlings come in the order of the log, per partition or per key."""
    last: dict[tuple[object, ...], Entry] = {}
    parked = case.evidence.copies["parked"]
    for entry in sorted(case.first.values(), key=lambda each: each.at_ns):
        # One that was parked has left the line; read again after a crash, it may be handled behind later ones.
        if entry.number in parked:
            continue
        key = case.by_number[entry.number].key if entry.topic in case.evidence.keyed else None
        strand = (entry.lane, entry.topic, entry.partition, key)
        before = last.setdefault(strand, entry)
        if entry.offset < before.offset:
            # So has one whose copy was lost with the process that parked it.
            if entry.lane == "s" and entry.topic in case.evidence.parking and _was_killed(case, before.process):
                continue
            yield f"{strand}: {before.offset} by {before.process}, then {entry.offset} by {entry.process}"
        else:
            last[strand] = entry


def _was_killed(case: Case, process: str) -> bool:
    return process not in case.evidence.journals.closed


def no_commit_is_too_early(case: Case) -> Iterator[str]:
    """No commit ever passes a message that was not handled yet."""
    for (lane, place), commits in case.commits.items():
        messages = iter(case.by_place.get((lane, place), ()))
        message, latest, culprit = next(messages, None), -inf, ""
        for position, at_ns in sorted(commits):
            while message is not None and message.offset < position:
                ended = -inf if case.untold(message) else case.ended_ns.get(message.order.number, inf)
                if ended > latest:
                    latest, culprit = ended, f"{message.order} at {message.offset}"
                message = next(messages, None)
            if latest > at_ns:
                yield f"lane {lane} of {place} committed {position}, {culprit} was not done"
                break


def no_position_goes_back(case: Case) -> Iterator[str]:
    """No group's position ever goes back, unless to a commit that the client said again because no answer came."""
    # Such a one lies with a broker that stands still, or on its way there, and comes after what was committed since.
    for (lane, place), commits in case.commits.items():
        said: set[int] = set()
        for (before, _), (after, at_ns) in pairwise(commits):
            said.add(before)
            if after < before and not (after in said and lane in case.unanswered):
                yield f"lane {lane} of {place}: {before}, then {after} (at {at_ns / 1e9:.3f} s)"


def a_clean_stop_commits_what_is_handled(case: Case) -> Iterator[str]:
    """After a clean stop each group stands where the handled messages end."""
    for stand in case.evidence.calm_stops:
        for (lane, place), messages in case.by_place.items():
            if lane != stand.lane or place not in stand.positions:
                continue
            ahead = (each for each in messages if each.offset >= stand.positions[place])
            first = next(ahead, None)
            if first is None or case.untold(first):
                continue
            if case.ended_ns.get(first.order.number, inf) <= stand.at_ns:
                yield f"lane {lane} of {place} stands at {stand.positions[place]}, {first.order} is handled"


def in_the_end_nothing_is_left(case: Case) -> Iterator[str]:
    """In the end each group stands behind its last message."""
    for stand in case.evidence.final:
        for (lane, place), messages in case.by_place.items():
            position = stand.positions.get(place, 0)
            if lane == stand.lane and messages[-1].offset >= position:
                yield f"lane {lane} of {place} stands at {position}, its last message is at {messages[-1].offset}"


def the_worker_counts_what_it_does(case: Case) -> Iterator[str]:
    """A worker that ends in order has announced as many messages handled as its handlers have written down."""
    announced: Counter[tuple[str, str]] = Counter()
    for told in case.evidence.journals.told:
        if (told.what, told.name) == ("count", "handled"):
            announced[told.process, told.lane] += told.count
    written = Counter((each.process, each.lane) for each in case.handled)
    for process, lane in announced.keys() | written.keys():
        counts = announced[process, lane], written[process, lane]
        if process in case.evidence.journals.closed and counts[0] != counts[1]:
            yield f"{process} in lane {lane}: {counts[0]} announced, {counts[1]} written down"


def nothing_else_went_wrong(case: Case) -> Iterator[str]:
    """No worker dies by itself, or does not end when it is told to."""
    yield from case.evidence.troubles


CHECKS = (
    kafka_keeps_what_it_acknowledged,
    no_message_is_lost,
    each_message_has_its_outcome,
    no_message_changes_its_lane,
    order_is_kept,
    no_commit_is_too_early,
    no_position_goes_back,
    a_clean_stop_commits_what_is_handled,
    in_the_end_nothing_is_left,
    the_worker_counts_what_it_does,
    nothing_else_went_wrong,
)
