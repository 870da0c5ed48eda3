"""How calls are limited: the rules of the gates, each of one command."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BreakerRule",
    "GuardSettings",
    "KeysRule",
    "Missing",
    "RateRule",
]


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
