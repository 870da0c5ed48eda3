"""What an engine is built from, decided once for a topic in a lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shadowstream.kafka.clock import REAL_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shadowstream.config import TopicSettings
    from shadowstream.gate import Gate
    from shadowstream.kafka.transactions import Shelf
    from shadowstream.lane import Lane

    Handler = Callable[[Any], object]

__all__ = ["Binding"]

MAX_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A handler with all that one lane decided about it when the worker was built."""

    lane: Lane
    topic: TopicSettings
    command: str
    handler: Handler
    gate_of: Callable[[], Gate]
    """Gives the command's gate as it is now."""
    shared: bool
    """Whether the other lane's cursor reads this Kafka topic too."""
    timeout_s: float | None = None
    """How long a call may take; None: as long as it likes."""
    batch: int | None = None
    """How many messages the handler is given at most, as one list; None: it is given single messages."""
    by_hand: bool = False
    """Whether the handler settles its messages itself."""
    returns: bool = False
    """Whether this is the retry topic of another one: its messages rest until they are due."""
    clock: Clock = REAL_CLOCK
    shelf: Shelf | None = None
    """Where outputs wait for the transaction of their source; None: the topic has no transactions."""

    def delays_s(self) -> Iterator[float]:
        """Give how long to rest before each retry: doubled each time, and a random part of the upper half of that.

        "Equal jitter" (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): messages that failed
        together do not come back together.
        """
        for attempt in range(self.topic.retries):
            longest_s = min(self.topic.backoff_s * 2**attempt, MAX_BACKOFF_S)
            yield longest_s * (1 + self.clock.chance()) / 2
