"""The changes of a consumer's assignment, until its callbacks have carried them out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_STORED, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.testing.answers import Place
    from shadowstream.testing.clients.reader import Reader

    OnChange = Callable[[Any, list[TopicPartition]], None]
    """Given the consumer, and the partitions."""

__all__ = ["Changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """Some partitions come, or go."""

    places: tuple[Place, ...]
    given: bool
    lost: bool


@dataclass(slots=True)
class Changes:
    """What the group has decided and the application has not heard yet."""

    callbacks: tuple[OnChange | None, OnChange | None, OnChange | None] = (None, None, None)
    """On assign, on revoke, on lost."""
    waiting: deque[Change] = field(default_factory=deque)
    under_way: bool = False
    """Whether a callback is being called: the client's own thread takes no further step meanwhile."""
    by_hand: bool = False
    """Whether the callback under way has changed the assignment itself, or tried to."""

    def add(self, places: set[Place], *, given: bool, lost: bool = False) -> None:
        """Queue one."""
        self.waiting.append(Change(tuple(sorted(places)), given, lost))

    def carry_out(self, consumer: object, reader: Reader) -> None:
        """Call the application for each; do by default what it does not do itself, also when it raises."""
        while self.waiting:
            change = self.waiting.popleft()
            callback = self._callback(change)
            self.by_hand, self.under_way = False, True
            try:
                if callback is not None:
                    callback(consumer, [TopicPartition(*place) for place in change.places])
            finally:
                self.under_way = False
                if not self.by_hand:
                    _apply(change, reader)

    def _callback(self, change: Change) -> OnChange | None:
        on_assign, on_revoke, on_lost = self.callbacks
        if change.given:
            return on_assign
        return on_lost if change.lost and on_lost is not None else on_revoke


def _apply(change: Change, reader: Reader) -> None:
    # Nothing is left of an eager assignment when the next one comes, so adding is right for both kinds.
    if change.given:
        reader.add(TopicPartition(*place, OFFSET_STORED) for place in change.places)
    else:
        reader.remove(change.places)
