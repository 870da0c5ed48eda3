"""What a lane did with a change of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shadowstream.config.review import differences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.config.model import Settings
    from shadowstream.config.review import Difference
    from shadowstream.lane import Lane

__all__ = ["Change", "refused", "taken"]

LIVE: Final = frozenset({"rate_limit", "default_rate_limit", "multi_key_rate_limit_v2", "resilience"})
"""Sections whose changes a running process goes by."""
AT_START: Final = frozenset({"by_partitions", "joint", "timeout"})
"""Fields of them that it goes by only from its start."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one lane of this process did with a configuration that it found."""

    lane: Lane
    version: str
    """Of what was found, twelve hex digits."""
    number: int
    """How many versions the lane has gone by, this one among them if it was taken."""
    problems: tuple[str, ...] = ()
    """Why it was refused, and the last good one is gone by; empty when it was taken."""
    differences: tuple[Difference, ...] = ()
    """What is in force now."""
    waiting: tuple[Difference, ...] = ()
    """What will be in force after a restart."""

    def __str__(self) -> str:
        """Tell it in one line."""
        if self.problems:
            return f"lane={self.lane} version={self.version}: the last good one is kept; " + "; ".join(self.problems)
        live = _told(self.differences) or "no limit of this lane changes"
        line = f"lane={self.lane} version={self.version} number={self.number}: {live}"
        return f"{line}; needs a restart: {_told(self.waiting)}" if self.waiting else line


def taken(lane: Lane, number: int, before: Settings, after: Settings) -> Change:
    """Return the change from some settings to others."""
    live: list[Difference] = []
    waiting: list[Difference] = []
    for each in differences(before, after, (lane, lane)):
        section, *_, field = each.key.split()
        (live if section in LIVE and field not in AT_START else waiting).append(each)
    return Change(lane, _version(after), number, (), tuple(live), tuple(waiting))


def refused(lane: Lane, version: str, number: int, problems: Iterable[object]) -> Change:
    """Return that nothing has changed, and why."""
    return Change(lane, version, number, tuple(map(str, problems)))


def _version(settings: Settings) -> str:
    return "" if settings.origin is None else settings.origin.version


def _told(differences: Iterable[Difference]) -> str:
    return ", ".join(f"{each.key}: {each.before} -> {each.after}" for each in differences)
