"""Frozen facts that the rooms announce, and the protocol of those who listen.

Nothing here is made per message: the engine announces one `Carried` for many messages, the rest are rare. With no
listener none is built at all. A listener that raises is logged and stops nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shadowstream.lane import Lane

__all__ = [
    "Called",
    "Carried",
    "CommitFailed",
    "Configured",
    "CopyFailed",
    "Crossed",
    "Event",
    "GateLevel",
    "Guarding",
    "Hook",
    "HotKeys",
    "Lagging",
    "Listeners",
    "Outcome",
    "Overdue",
    "OverdueCalls",
    "Produced",
    "Rebalanced",
    "ShadowOff",
    "Transition",
    "Troubled",
    "Uncovered",
]

log = logging.getLogger("shadowstream.events")


class Outcome(StrEnum):
    """How one message of one lane ended; each ends in exactly one."""

    HANDLED = "handled"
    FAILED = "failed"
    PARKED = "parked"
    SHED = "shed"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"
    RETRIED = "retried"
    """It rests in its retry topic, is read there once more, and ends there in an outcome of its own."""
    CANCELLED = "cancelled"
    """Interrupted by a stop or a rebalance: not settled, not counted, read again later."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in one lane."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class Carried(Event):
    """Some messages of one partition went through the engine."""

    topic: str
    partition: int
    command: str
    outcomes: Mapping[Outcome, int]
    """Messages by outcome."""
    stepped_over: int
    """Messages of the other lane, read and left alone."""
    verdicts: Mapping[str, int]
    """Gate decisions by name: ``admit``, ``admit_soft``, ``wait``, ``park``, ``shed``; and of the admissions those that
    a stage in dry run would have refused: ``dry_rate``, ``dry_breaker``, ``dry_cap``, ``dry_keys``."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Quarantined messages and near misses by reason."""
    seconds: tuple[float, ...] = ()
    """How long each handler call took."""


@dataclass(frozen=True, slots=True)
class Called(Event):
    """Some guarded calls of one command were asked for, or ended."""

    command: str
    outcomes: Mapping[Outcome, int]
    """Calls by how they ended: handled, failed or cancelled."""
    verdicts: Mapping[str, int]
    """Gate decisions by name, as in `Carried`."""
    seconds: tuple[float, ...] = ()
    """How long each call took."""


@dataclass(frozen=True, slots=True)
class Crossed(Event):
    """A request or call that is not plainly normal came in or went out over a wire other than Kafka."""

    wire: str
    """``http``, ``websocket``, ``grpc`` ..."""
    way: str
    """``in`` or ``out``."""
    verdict: str
    """``carried``, ``unmarked`` (out, by the configuration), ``stripped`` (in, at the edge) or ``refused``."""
    reason: str = ""
    """Why it was refused or stripped."""


@dataclass(frozen=True, slots=True)
class Produced(Event):
    """Some messages were given to a producer in one lane, announced about once a second."""

    topics: Mapping[str, int]
    """Messages by topic: beside what was handled, the fan-out."""


@dataclass(frozen=True, slots=True)
class Transition(Event):
    """A breaker changed its state."""

    command: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class GateLevel(Event):
    """What a gate looks like now, announced about once a second."""

    command: str
    breaker: str
    """``closed``, ``open``, ``half-open``, or ``none`` when the command has no breaker."""
    tokens: float | None
    """Messages the hard limit would admit at once; None when there is no limit."""
    in_flight: int


@dataclass(frozen=True, slots=True)
class Guarding(Event):
    """What the guard leaves of the shadow lane, announced twice a second."""

    level: float
    """By what its rate and concurrency are multiplied, 0 to 1."""
    strain: float
    """The largest share of an objective that one of normal's signals has; 1: it is broken, or nobody knows."""
    why: str
    """The signal that it was cut for last; empty when it never was."""
    latched: bool
    """Whether it stays 0 until somebody has looked."""


@dataclass(frozen=True, slots=True)
class HotKeys(Event):
    """The values of a limit's keys that were asked for most, and near or above their rate, in the last second."""

    command: str
    keys: tuple[tuple[str, str, int], ...]
    """Key, value ('' when absent), and how often; most often first."""


@dataclass(frozen=True, slots=True)
class Lagging(Event):
    """How far a cursor is behind the end of its partition, announced about once a second."""

    topic: str
    partition: int
    messages: int


@dataclass(frozen=True, slots=True)
class Uncovered(Event):
    """How many finished messages of a partition a crash would repeat now, announced about once a second."""

    topic: str
    partition: int
    messages: int


@dataclass(frozen=True, slots=True)
class CommitFailed(Event):
    """A commit was refused; it is tried again on the next tick while the partition is ours."""

    error: str


@dataclass(frozen=True, slots=True)
class Configured(Event):
    """Another configuration was found, and is gone by or refused."""

    version: str
    """Twelve hex digits of its SHA-256."""
    number: int
    """How many versions the lane has gone by since the process began."""
    taken: bool
    """Whether this is one of them; False: the last good one is kept."""


@dataclass(frozen=True, slots=True)
class CopyFailed(Event):
    """A parked, quarantined, resting or dead copy was not delivered; it is tried again, its offset unsettled."""

    topic: str
    error: str


@dataclass(frozen=True, slots=True)
class Overdue(Event):
    """A call of a sync handler is past its timeout and cannot be stopped; announced once for each call."""

    topic: str
    command: str
    partition: int
    offset: int
    """Of the message, or of the first one of a batch."""


@dataclass(frozen=True, slots=True)
class OverdueCalls(Event):
    """How many calls of a topic's sync handler are past their timeout now, announced when the number changes."""

    topic: str
    calls: int


@dataclass(frozen=True, slots=True)
class Rebalanced(Event):
    """Partitions came or went."""

    change: str
    """``assigned``, ``revoked`` or ``lost``."""
    partitions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Troubled(Event):
    """The client reported an error that it survives by itself."""

    error: str


@dataclass(frozen=True, slots=True)
class ShadowOff(Event):
    """The shadow lane does not run."""

    reasons: tuple[str, ...]


class Hook(Protocol):
    """Something that listens."""

    def on(self, event: Event) -> None:
        """Take note of one fact; called from any thread, and must not block."""
        ...


class Listeners:
    """Passes each fact on to every hook."""

    __slots__ = ("_hooks",)

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def __bool__(self) -> bool:
        """Tell whether anybody listens, so that nobody builds facts for no one."""
        return bool(self._hooks)

    def on(self, event: Event) -> None:
        """Pass one fact on; a hook that raises is logged and the others still hear."""
        for hook in self._hooks:
            try:
                hook.on(event)
            except Exception:
                log.exception("listener_failed event=%s", type(event).__name__)
