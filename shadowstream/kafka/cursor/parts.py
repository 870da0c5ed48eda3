"""What a cursor is put together from."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from shadowstream.kafka.clock import REAL_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer as RawConsumer
    from confluent_kafka import TopicPartition

    from shadowstream.config import WorkerSettings
    from shadowstream.events import Listeners
    from shadowstream.gate import Gates
    from shadowstream.kafka.strands import Crew
    from shadowstream.kafka.transactions import Shelf
    from shadowstream.kafka.transactions.aside import Aside
    from shadowstream.kafka.transactions.transaction import Transaction
    from shadowstream.lane import Lane

    Place = tuple[str, int]

__all__ = ["Beginning", "Parts"]


class Beginning(NamedTuple):
    """Where newly assigned partitions begin."""

    known: list[TopicPartition]
    """Where the group has committed before, with the metadata; a negative offset: the client knows what to do."""
    begun: list[TopicPartition]
    """Where this is the first time, and is to be committed at once; others of the same topics may be among them."""


@dataclass(slots=True)
class Parts:
    """Everything that one lane's cursor needs."""

    lane: Lane
    consumer: RawConsumer
    incremental: bool
    """Whether partitions are assigned one by one (cooperative-sticky, KIP-848)."""
    settings: WorkerSettings
    listeners: Listeners
    gates: Gates
    start_at: Callable[[list[TopicPartition], bool], Beginning]
    """Finds out where newly assigned partitions begin; True: it is not asked again, so it may go on without knowing."""
    crews: dict[str, Crew] = field(default_factory=dict)
    """By Kafka topic."""
    transaction: Transaction | Aside | None = None
    """What commits the transactional topics; None when there are none."""
    shelves: dict[str, Shelf] = field(default_factory=dict)
    """Where outputs of transactional topics wait, by Kafka topic."""
    stopping: Event = field(default_factory=Event)
    """Wakes hands that wait."""
    room: Event = field(default_factory=Event)
    """Set by hands whenever a piece is finished."""
    back: Event = field(default_factory=Event)
    """Set by a hand that polls no more."""
    failures: list[BaseException] = field(default_factory=list)
    """Errors of ours that ended a hand."""
    clock: Clock = REAL_CLOCK

    def ended(self, failure: BaseException | None) -> None:
        """Take note that a piece is finished, or that a hand failed."""
        if failure is not None:
            self.failures.append(failure)
        self.room.set()
