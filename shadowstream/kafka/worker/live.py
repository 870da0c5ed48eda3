"""Lets a running lane go by changes of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.config.live import Watcher
from shadowstream.events import Configured
from shadowstream.kafka.worker.assembly import check_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Listeners
    from shadowstream.kafka.cursor import Cursor
    from shadowstream.kafka.worker.assembly import Registration
    from shadowstream.lane import Lane

__all__ = ["watcher_of"]


def watcher_of(
    settings: Settings, lane: Lane, cursor: Cursor, registrations: Sequence[Registration], listeners: Listeners
) -> Watcher:
    """Return what lets a cursor go by changes of its lane's limits, keys and breakers while it is entered."""

    def adopt(ours: LaneSettings) -> None:
        for each in registrations:
            check_batch(ours, each)
        cursor.adopt(ours)

    watcher = Watcher(settings, {lane: adopt}, lambda *told: listeners.on(Configured(*told)))
    cursor.gates.hear(watcher.lay_over)
    return watcher
