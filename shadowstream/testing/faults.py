"""What a test lets go wrong, one fault at a time, counted down as it happens.

A fault is a value in a queue: the next commit, the next produced message takes it. Nothing here is random.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from shadowstream.testing.answers import MSG_TIMED_OUT, TIMED_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One request that ends badly."""

    code: int
    """What the client is told."""
    applied: bool
    """Whether the broker did it all the same."""


@dataclass(slots=True)
class Faults:
    """What the broker's next answers are; read and changed by tests."""

    commits: deque[Fault] = field(default_factory=deque)
    """Of the next commits, in their order."""
    deliveries: deque[Fault] = field(default_factory=deque)
    """Of the next produced messages, in the order in which they reach the broker."""
    beats: deque[Fault] = field(default_factory=deque)
    """Of the next heartbeats."""
    slow_commits: bool = False
    """Whether asynchronous commits are sent only when their consumer is called again; a crash before loses them."""
    stuck_commits_s: deque[float] = field(default_factory=deque)
    """After how many seconds each of the next asynchronous commits comes to the broker: it lay with one that stood
    still, and the client sends it again, behind whatever it has committed meanwhile."""
    holding: bool = False
    """Whether delivery reports are kept back for the time being."""
    down: bool = False
    """Whether the broker answers nobody."""
    cut_off: set[str] = field(default_factory=set)
    """Names of the clients that do not reach the broker: their ``client.id``."""

    def fail_commits(self, count: int = 1, code: int = KafkaError.COORDINATOR_NOT_AVAILABLE) -> None:
        """Refuse the next commits with an error."""
        self.commits.extend([Fault(code, applied=False)] * count)

    def lose_commit_answers(self, count: int = 1) -> None:
        """Take the next commits, and let the client wait for the answer until it gives up."""
        self.commits.extend([Fault(TIMED_OUT, applied=True)] * count)

    def delay_commits(self, seconds: float, count: int = 1) -> None:
        """Let the next asynchronous commits lie with a broker that stands still for some seconds."""
        self.stuck_commits_s.extend([seconds] * count)

    def fail_deliveries(self, count: int = 1, code: int = KafkaError.NOT_ENOUGH_REPLICAS) -> None:
        """Refuse the next produced messages: each report carries the error."""
        self.deliveries.extend([Fault(code, applied=False)] * count)

    def lose_delivery_reports(self, count: int = 1) -> None:
        """Take the next produced messages, and report each as timed out."""
        self.deliveries.extend([Fault(MSG_TIMED_OUT, applied=True)] * count)

    def lose_heartbeat_answers(self, count: int = 1) -> None:
        """Take the next heartbeats, and let their answers get lost."""
        self.beats.extend([Fault(TIMED_OUT, applied=True)] * count)

    def reaches(self, client: str) -> bool:
        """Tell whether a client reaches the broker."""
        return not self.down and client not in self.cut_off

    def clear(self) -> None:
        """Let everything go well from here on, and every client reach the broker."""
        queues: Iterable[deque[Any]] = (self.commits, self.stuck_commits_s, self.deliveries, self.beats)
        for queue in queues:
            queue.clear()
        self.cut_off.clear()
        self.slow_commits = self.holding = self.down = False
