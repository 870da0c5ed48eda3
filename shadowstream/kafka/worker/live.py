"""What goes on beside a lane: it goes by changes of its configuration, and by its part of what is limited together."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from shadowstream.config.live import Watcher
from shadowstream.events import Configured
from shadowstream.kafka.clients import QUIET, producer_of
from shadowstream.kafka.worker.assembly import check_batch
from shadowstream.kafka.worker.portions import Portions, totals_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Listeners
    from shadowstream.kafka.cursor import Cursor
    from shadowstream.kafka.worker.assembly import Registration
    from shadowstream.lane import Lane

__all__ = ["portions_of", "watcher_of"]


def portions_of(settings: LaneSettings, cursor: Cursor, registrations: Iterable[Registration]) -> Portions | None:
    """Return what tells a lane's gates which part of its limits is theirs; None where no limit goes by partitions."""
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for each in registrations:
        rate, topic = settings.rate(each.command), settings.topics[each.topic]
        if rate is not None and rate.by_partitions and topic.enabled:
            topics[each.command].append(topic.source)
    if not topics:
        return None
    return Portions(topics, cursor.places, totals_of(producer_of(settings, **QUIET)), cursor.gates.portions)


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
