"""What one lane needs: its topics, its process, its rules, its sinks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.config.model.rules import BreakerRule, GuardSettings, KeysRule, RateRule
    from shadowstream.lane import Lane

__all__ = [
    "FleetSettings",
    "LaneSettings",
    "OnLimit",
    "Order",
    "Route",
    "TopicSettings",
    "WorkerSettings",
]

type_scalar = str | int | float | bool


class Route(StrEnum):
    """Where shadow messages of a topic go."""

    SAME = "same"
    TOPIC = "topic"


class OnLimit(StrEnum):
    """What a refused shadow message does."""

    WAIT = "wait"
    PARK = "park"
    SHED = "shed"


class Order(StrEnum):
    """Which messages of a lane keep their order among themselves."""

    PARTITION = "partition"
    KEY = "key"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """One topic as one lane sees it."""

    name: str
    """The topic as configured, whichever route its shadow messages take."""
    source: str
    """The Kafka topic that this lane reads."""
    route: Route = Route.SAME
    enabled: bool = True
    """Whether the topic takes part in shadow traffic at all."""
    order: Order = Order.PARTITION
    concurrency: int = 1
    on_limit: OnLimit = OnLimit.WAIT
    retries: int = 2
    backoff_s: float = 0.1
    """Before the first retry; doubled each time, at most 5 s."""
    rounds: int = 0
    """How often a message that failed to the end comes again from its retry topic; 0: there is none."""
    rest_s: float = 30.0
    """How long it rests there before each round, at least; a random part of a fifth of it comes on top."""
    max_messages: int = 10_000
    """Bound of what is read and not finished, in messages."""
    max_bytes: int = 32 * 1024 * 1024
    """Bound of what is read and not finished, in bytes."""
    transactional: bool = False
    """Whether offsets and what handlers produce are committed in one transaction of the lane."""

    @property
    def shared(self) -> bool:
        """Whether the messages of both lanes lie on it."""
        return self.enabled and self.route is Route.SAME


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a lane's process runs."""

    nice: int = 0
    drain_s: float = 30.0
    """How long a stop waits for handlers that are running."""
    revoke_s: float = 10.0
    """How long a rebalance waits for handlers that are running."""
    commit_every_s: float = 0.5
    batch: int = 1000
    """Messages taken from the client at once."""
    metrics_port: int | None = None
    metrics_address: str = "0.0.0.0"  # noqa: S104 - whoever sets a port wants it scraped from another host


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the processes of a lane share their limits through."""

    service: str
    url: str = field(repr=False)
    """Where Redis is."""
    timeout_s: float = 0.05
    """After how long without an answer it counts as not reachable."""
    lease: bool = False
    """Whether shadow runs only while its run has a lease (`shadowstream arm`)."""
    live: bool = False
    """Whether limits may be laid over shadow's through Redis (`shadowstream limit`)."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Everything that one lane needs, with the fallbacks already taken.

    ``kafka``, ``tasks`` and ``data`` may hold passwords, so they are left out of ``repr``.
    """

    lane: Lane
    kafka: Mapping[str, type_scalar] = field(repr=False)
    """librdkafka properties shared by this lane's clients; ``group.id`` and ``client.id`` are the lane's own."""
    topics: Mapping[str, TopicSettings]
    worker: WorkerSettings
    default_rate: RateRule | None
    rates: Mapping[str, RateRule | None]
    breakers: Mapping[str, BreakerRule | None]
    key_limits: Mapping[str, KeysRule | None]
    tasks: Mapping[str, Mapping[str, object]] = field(repr=False)
    """Task configs by name, as written, except that ``every`` becomes ``every_s``, in seconds."""
    data: Mapping[str, Mapping[str, object]] = field(repr=False)
    """Sinks by name: where this lane's data goes."""
    fleet: FleetSettings | None = None
    """Where limits are shared; None in the normal lane, which asks nobody."""
    guard: GuardSettings | None = None
    """What normal must keep, in both lanes: normal writes down how it is, and shadow goes by it. None: no guard."""

    def rate(self, command: str) -> RateRule | None:
        """Return the command's own limit, else the default one, else None."""
        return self.rates.get(command, self.default_rate)

    def breaker(self, command: str) -> BreakerRule | None:
        """Return the command's breaker rule, None when it has none."""
        return self.breakers.get(command)

    @property
    def transactional(self) -> bool:
        """Tell whether the lane commits any topic in transactions."""
        return any(topic.transactional for topic in self.topics.values())
