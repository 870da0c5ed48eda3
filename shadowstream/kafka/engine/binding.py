"""What an engine is built from, decided once for a topic in a lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.config import TopicSettings
    from shadowstream.gate import Gate
    from shadowstream.kafka.message import Message
    from shadowstream.lane import Lane

    Handler = Callable[[Message], object]

__all__ = ["Binding"]

MAX_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A handler with all that one lane decided about it when the worker was built."""

    lane: Lane
    topic: TopicSettings
    command: str
    handler: Handler
    gate: Gate
    shared: bool
    """Whether the other lane's cursor reads this Kafka topic too."""
    ended: Callable[[], None] = lambda: None
    """Called by each strand, in its thread, when it ends."""

    def delays_s(self) -> tuple[float, ...]:
        """Return how long to rest before each retry."""
        return tuple(min(self.topic.backoff_s * 2**n, MAX_BACKOFF_S) for n in range(self.topic.retries))
