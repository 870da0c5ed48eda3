"""A sound run, small and made up: each test spoils one thing in it and sees the oracle find just that.

PYTEST_DONT_REWRITE: the tests import it before pytest could.
"""

from __future__ import annotations

from collections import Counter
from itertools import count

from tests.chaos.oracle import Acked, Commit, Evidence, Logged, Stand
from tests.chaos.records import Entry, Journals, Kind, Order, Told

TOPIC, KEYED = "plain", "keyed"
KINDS = (Kind.PLAIN, Kind.FLAKY, Kind.POISON, Kind.PLAIN, Kind.SLOW)
SHADOW_KINDS = (Kind.PLAIN, Kind.EXPIRED, Kind.GARBLED, Kind.POISON, Kind.PLAIN)
ROUNDS = 4
MEMBERS = {"n": "normal-1", "s": "shadow-1"}


def sound() -> Evidence:
    """Return what a run leaves in which everything holds: two topics, both lanes in turn, one process for each lane."""
    numbers, clock = count(), count(1000, 10)
    evidence = Evidence(
        log=[],
        acked={},
        journals=Journals([], [], set(MEMBERS.values())),
        copies={"dlq": Counter(), "quarantine": Counter(), "parked": Counter()},
        commits=[],
        keyed=frozenset({KEYED}),
        parking=frozenset({KEYED}),
    )
    for topic in (TOPIC, KEYED):
        offsets = count()
        for _ in range(ROUNDS):
            for lane, kinds in (("n", KINDS), ("s", SHADOW_KINDS)):
                for kind in kinds:
                    order = Order(lane, next(numbers), kind)
                    carried(evidence, Logged(topic, 0, next(offsets), b"k%d" % (order.number % 2), order), next(clock))
    for lane, process in MEMBERS.items():
        handled = sum(each.what == "handled" and each.lane == lane for each in evidence.journals.entries)
        evidence.journals.told.append(Told("count", lane, "handled", handled, process))
    ends = {
        (topic, 0): 1 + max(each.offset for each in evidence.log if each.topic == topic) for topic in (TOPIC, KEYED)
    }
    evidence.final = [Stand(lane, next(clock), ends) for lane in MEMBERS]
    evidence.calm_stops = [Stand(lane, next(clock), ends) for lane in MEMBERS]
    return evidence


def carried(evidence: Evidence, logged: Logged, at_ns: int) -> None:
    """Let one message be acknowledged, handled as its kind asks, and committed."""
    order = logged.order
    evidence.log.append(logged)
    evidence.acked[order.number] = Acked(logged.topic, logged.partition, logged.offset, at_ns)
    what = {Kind.POISON: "raised", Kind.EXPIRED: "", Kind.GARBLED: ""}.get(order.kind, "handled")
    if what:
        evidence.journals.entries.append(entry(logged, at_ns + 1, what))
    aside = {Kind.POISON: "dlq", Kind.GARBLED: "quarantine"}.get(order.kind)
    if aside:
        evidence.copies[aside][order.number] += 1
    evidence.commits.append(Commit(order.lane, logged.place, logged.offset + 1, at_ns + 2))


def entry(logged: Logged, at_ns: int, what: str = "handled", process: str = "") -> Entry:
    """Return what a handler writes down about a message."""
    order = logged.order
    place = logged.topic, logged.partition, logged.offset
    return Entry(what, order.lane, *place, order.number, at_ns, process or MEMBERS[order.lane])
