"""The settings as the other rooms see them: frozen, and resolved for each lane once, at load.

Nobody outside this room looks at YAML, layers or fallbacks. Units are in the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from shadowstream.errors import ConfigError, Problem, SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shadowstream.config.lookup import Layers

__all__ = [
    "BreakerRule",
    "FleetSettings",
    "GuardSettings",
    "KeysRule",
    "LaneSettings",
    "MarkSettings",
    "OnLimit",
    "Order",
    "Origin",
    "RateRule",
    "Route",
    "Settings",
    "SigningKey",
    "TopicSettings",
    "Trust",
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


class Trust(StrEnum):
    """Which marks are believed."""

    OPEN = "open"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One HMAC key; the first in the list signs, all of them verify."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """How marks are spelled and believed."""

    header: str = "x-shadow"
    trust: Trust = Trust.OPEN
    keys: tuple[SigningKey, ...] = ()
    max_age_s: float = 6 * 3600.0
    """How far in the future an expiry may lie, and the expiry given to a mark without one."""
    skew_s: float = 30.0
    """How far the clocks of two machines may disagree."""


@dataclass(frozen=True, slots=True)
class RateRule:
    """Two rates in one decision; None means no such limit, 0 admits nothing."""

    soft_per_s: float | None = None
    hard_per_s: float | None = None
    burst: int | None = None
    """Messages that may pass at once; None: a tenth of a second's worth of the hard rate, at least 1."""
    on_soft: str = "admit"
    """``admit`` (with the ticket marked soft) or ``wait``."""
    warm_up_s: float | None = None
    """Seconds in which the rates are opened, after a start, a trip or a long time without calls; None: at once."""
    warm_from: float = 0.1
    """The share with which that begins."""
    joint_per_s: float | None = None
    """What both lanes together may reach: shadow is admitted what normal leaves of it. None: each has its own."""
    fleet: bool = False
    """Whether the rates are those of all the lane's processes together; for shadow alone."""
    by_partitions: bool = False
    """Whether a process's part of the rates is that of the topic's partitions that it reads; for shadow alone."""
    dry_run: bool = False
    """Whether it decides and counts as ever, and refuses nothing."""


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When a command's breaker opens, for how long, and how it closes again."""

    failure_rate: float = 0.5
    window: int = 100
    """Calls that the rates are taken over, if no time is given."""
    window_s: float | None = None
    """Seconds whose calls the rates are taken over; None: it is the last ``window`` calls."""
    min_calls: int = 20
    slow_call_s: float | None = None
    """A call at least this long counts as slow; None: no call is slow."""
    slow_rate: float = 0.5
    open_for_s: float = 30.0
    open_growth: float = 1.0
    """What it stays open for is multiplied by this each time it opens again without having closed."""
    open_for_max_s: float = 600.0
    """The longest it stays open when that grows."""
    open_jitter: float = 0.0
    """The share of its time by which it may half-open earlier, by chance: many who saw it open do not come at once."""
    half_open: int = 3
    """Calls admitted while half-open; all must succeed."""
    half_open_timeout_s: float | None = None
    """How long a half-open call is waited for before it counts as failed; None: for ever."""
    count: tuple[str, ...] = ()
    """Names of the errors that are failures; empty: all that are not ignored."""
    ignore: tuple[str, ...] = ()
    """Names of errors that are neither failure nor success, whatever ``count`` says."""
    max_concurrent: int | None = None
    """Calls at the same time; None: no cap, 0: none at all."""
    warm_up_s: float | None = None
    """Seconds in which the cap is opened, after a start, a trip or a long time without calls; None: at once."""
    warm_from: float = 0.1
    """The share with which that begins."""
    dry_run: bool = False
    """Whether breaker and cap decide and count as ever, and refuse nothing."""
    fleet: bool = False
    """Whether the breakers of all the lane's processes open together; for shadow alone."""
    timeout_s: float | None = None
    """How long a call may take; an async handler is cancelled then, a sync one is reported. None: for ever."""


class Missing(StrEnum):
    """What becomes of a message without one of the keys that it is limited by."""

    SHARED = "shared"
    """All such messages share one rate."""
    ADMIT = "admit"
    """The other keys decide."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class KeysRule:
    """A limit for each value of some fields of the message; all of them must admit."""

    keys: tuple[str, ...]
    hard_per_s: float
    burst: int | None = None
    max_keys: int = 100_000
    dry_run: bool = False
    """Whether it decides and counts as ever, and refuses nothing."""
    missing: Missing = Missing.SHARED
    """What counts for a message in which a key is absent or null."""
    hot_keys: int = 0
    """How many of the values that are asked for most are told each second; 0: none, for they may be personal."""
    overrides: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """By key, the values with a rate of their own, per second; None: no limit, 0: none is admitted."""


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
class GuardSettings:
    """What normal must keep, and shadow is cut for; None: nobody asks."""

    p99_s: float | None = None
    """The time in which 99 of 100 handler calls end."""
    error_rate: float | None = None
    """Failed calls, as a share of all."""
    lag_growth_per_s: float | None = None
    """Messages a second by which it falls behind."""
    loop_lag_s: float | None = None
    """By how much a thread of its process wakes late."""


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


@dataclass(frozen=True, slots=True)
class Origin:
    """What settings were loaded from."""

    path: str | Path
    environ: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    version: str
    """Twelve hex digits of the SHA-256 of the file and the live layer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One service's configuration.

    ``shadow`` is None when only shadow's part is wrong: normal runs, shadow does not, and ``shadow_problems`` says why.
    """

    service: str
    mark: MarkSettings
    normal: LaneSettings
    shadow: LaneSettings | None
    shadow_problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    fleet: FleetSettings | None = None
    """What the shadow lane's processes share; also when that lane is off, for whoever wants to stop it."""
    layers: Layers | None = field(default=None, repr=False, compare=False)
    """What the values were resolved from, for ``config explain``."""
    origin: Origin | None = field(default=None, repr=False, compare=False)
    """Where to look for changes; None when they were built by hand."""

    def of(self, lane: Lane) -> LaneSettings:
        """Return one lane's settings.

        Raises:
            ConfigError: the shadow lane is off; its problems say why.
        """
        if Lane(lane) is Lane.NORMAL:
            return self.normal
        if self.shadow is None:
            raise ConfigError(self.shadow_problems)
        return self.shadow

    def topic(self, name: str, lane: Lane) -> TopicSettings:
        """Return one topic's settings in one lane.

        Raises:
            SetupError: the configuration has no such topic.
        """
        try:
            return self.of(lane).topics[name]
        except KeyError:
            known = ", ".join(sorted(self.normal.topics)) or "none"
            raise SetupError(
                f"topic {name!r} is not configured (configured: {known}); add `{name}: {{}}` under `topics:`"
            ) from None

    def transactional(self, name: str) -> bool:
        """Tell whether a lane commits a topic in transactions.

        Raises:
            SetupError: the configuration has no such topic.
        """
        lanes = [Lane.NORMAL] if self.shadow is None else list(Lane)
        return any(self.topic(name, lane).transactional for lane in lanes)
