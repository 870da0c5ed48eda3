"""Whose message is it, and what becomes of one that is not ours: pure rules.

Trap: both cursors read every message of a shared topic, and each message must have exactly one owner
(``test_each_reading_has_exactly_one_owner_among_the_two_lanes``).
"""

from __future__ import annotations

from shadowstream.events import Outcome
from shadowstream.headers import Kind, Reading
from shadowstream.lane import Lane

__all__ = ["fate", "foreign"]

UNTELLABLE = frozenset(("unreadable", "too_many_headers"))
"""Reasons that leave it open whether a message is marked at all."""


def fate(lane: Lane, shared: bool, reading: Reading) -> tuple[Outcome, str] | None:  # noqa: FBT001 - a pure rule
    """Tell what a cursor does with a message that is not its lane's to handle; None: step over it.

    On a shared topic a message with a mark header belongs to the shadow cursor, whatever the mark is worth; one without
    belongs to the normal cursor, and so does one of which nobody can tell.
    """
    if not shared:
        if lane is Lane.SHADOW and reading.kind is Kind.EXPIRED:
            return Outcome.EXPIRED, ""
        alone = "unmarked" if lane is Lane.SHADOW else "misrouted"
        return Outcome.QUARANTINED, reading.reason if reading.kind is Kind.QUARANTINE else alone
    marked = reading.kind is not Kind.NORMAL and reading.reason not in UNTELLABLE
    if marked is (lane is Lane.NORMAL) or reading.kind is Kind.NORMAL:
        return None
    return (Outcome.EXPIRED if reading.kind is Kind.EXPIRED else Outcome.QUARANTINED), reading.reason


def foreign(lane: Lane, *, shared: bool) -> frozenset[Kind]:
    """Return the kinds that are stepped over whatever else was read, so that `fate` is asked only in rare cases."""
    others = {Kind.NORMAL, Kind.SHADOW, Kind.EXPIRED} - {Kind(lane.value)}
    return frozenset(kind for kind in others if fate(lane, shared, Reading(kind, None, "")) is None)
