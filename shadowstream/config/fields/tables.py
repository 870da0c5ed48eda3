"""Every section and every field in it."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shadowstream.config.fields.readers import (
    MOST_ROUNDS,
    Reader,
    WrongValueError,
    anything,
    choice,
    duration,
    flag,
    growth,
    hosts,
    name_of_kafka,
    names,
    on_soft,
    part,
    positive_duration,
    rate,
    rates_by_value,
    refused,
    rest,
    scalar,
    share,
    size,
    text,
    whole,
    words,
)
from shadowstream.config.model import (
    BreakerRule,
    FleetSettings,
    GuardSettings,
    KeysRule,
    MarkSettings,
    Missing,
    OnLimit,
    Order,
    PropagateSettings,
    RateRule,
    Route,
    TopicSettings,
    Trust,
    WorkerSettings,
)
from shadowstream.headers import HEADER_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECTIONS", "Field", "Section"]

SERVICE = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field as users spell it, and what the settings make of it."""

    attribute: str
    """Its name in the model."""
    read: Reader
    default: object = None
    null: bool = False
    """Whether null says something here."""
    falls_back: bool = True
    """Whether shadow takes normal's value where it has none of its own."""

    def value(self, given: object) -> object:
        """Read a value as given.

        Raises:
            WrongValueError: the value is not of this field's kind.
        """
        if given is None:
            if self.null:
                return None
            raise WrongValueError("is null, which says nothing here", "Give it a value, or leave the key out.")
        return self.read(given)


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its fields, and whether they stand under names (commands, topics, sinks)."""

    fields: Mapping[str, Field]
    named: bool = False
    free: Field | None = None
    """What fields outside the list are; None: there are no others."""
    lanes: bool = True
    """Whether the section may differ between the lanes."""

    def field(self, name: str) -> Field | None:
        """Return a field by its spelling, None when there is no such field."""
        return self.fields.get(name, self.free)


def _of(rule: type[Any], attribute: str, read: Reader, **more: bool) -> Field:
    """Return a field whose default stands in the model."""
    default = next(item.default for item in fields(rule) if item.name == attribute)
    return Field(attribute, read, None if default is MISSING else default, **more)


TOPICS = MappingProxyType(
    {
        "route": _of(TopicSettings, "route", choice(Route)),
        "enabled": _of(TopicSettings, "enabled", flag),
        "order": _of(TopicSettings, "order", choice(Order)),
        "concurrency": _of(TopicSettings, "concurrency", whole(1, 10_000)),
        "on_limit": _of(TopicSettings, "on_limit", choice(OnLimit)),
        "retries": _of(TopicSettings, "retries", whole(0)),
        "backoff": _of(TopicSettings, "backoff_s", duration),
        "rounds": _of(TopicSettings, "rounds", whole(0, MOST_ROUNDS)),
        "rest": _of(TopicSettings, "rest_s", rest),
        "max_messages": _of(TopicSettings, "max_messages", whole(1)),
        "max_bytes": _of(TopicSettings, "max_bytes", size),
        "transactional": _of(TopicSettings, "transactional", flag),
    }
)
RATES = MappingProxyType(
    {
        "soft": _of(RateRule, "soft_per_s", rate, null=True),
        "hard": _of(RateRule, "hard_per_s", rate, null=True),
        "burst": _of(RateRule, "burst", whole(1), null=True),
        "on_soft": _of(RateRule, "on_soft", on_soft),
        "warm_up": _of(RateRule, "warm_up_s", positive_duration, null=True),
        "warm_from": _of(RateRule, "warm_from", share),
        "joint": _of(RateRule, "joint_per_s", rate, null=True),
        "fleet": _of(RateRule, "fleet", flag, falls_back=False),
        "by_partitions": _of(RateRule, "by_partitions", flag, falls_back=False),
        "dry_run": _of(RateRule, "dry_run", flag),
    }
)
DEFAULT_RATES = MappingProxyType(
    {
        "soft_rate_limit": RATES["soft"],
        "hard_rate_limit": RATES["hard"],
        "burst": RATES["burst"],
        "warm_up": RATES["warm_up"],
        "warm_from": RATES["warm_from"],
        "fleet": RATES["fleet"],
        "by_partitions": RATES["by_partitions"],
        "dry_run": RATES["dry_run"],
    }
)
BREAKERS = MappingProxyType(
    {
        "failure_rate": _of(BreakerRule, "failure_rate", share),
        "window": _of(BreakerRule, "window", whole(1, 1_000_000)),
        "window_for": _of(BreakerRule, "window_s", positive_duration, null=True),
        "min_calls": _of(BreakerRule, "min_calls", whole(1, 1_000_000)),
        "slow_call": _of(BreakerRule, "slow_call_s", positive_duration, null=True),
        "slow_rate": _of(BreakerRule, "slow_rate", share),
        "open_for": _of(BreakerRule, "open_for_s", positive_duration),
        "open_growth": _of(BreakerRule, "open_growth", growth),
        "open_for_max": _of(BreakerRule, "open_for_max_s", positive_duration),
        "open_jitter": _of(BreakerRule, "open_jitter", part),
        "half_open": _of(BreakerRule, "half_open", whole(1)),
        "half_open_timeout": _of(BreakerRule, "half_open_timeout_s", positive_duration, null=True),
        "count": _of(BreakerRule, "count", names),
        "ignore": _of(BreakerRule, "ignore", names),
        "max_concurrent": _of(BreakerRule, "max_concurrent", whole(0), null=True),
        "warm_up": _of(BreakerRule, "warm_up_s", positive_duration, null=True),
        "warm_from": _of(BreakerRule, "warm_from", share),
        "dry_run": _of(BreakerRule, "dry_run", flag),
        "fleet": _of(BreakerRule, "fleet", flag, falls_back=False),
        "timeout": _of(BreakerRule, "timeout_s", positive_duration, null=True),
    }
)
KEYS = MappingProxyType(
    {
        "keys": _of(KeysRule, "keys", words),
        "hard": _of(KeysRule, "hard_per_s", rate, null=True),
        "burst": _of(KeysRule, "burst", whole(1), null=True),
        "max_keys": _of(KeysRule, "max_keys", whole(1)),
        "dry_run": _of(KeysRule, "dry_run", flag),
        "hot_keys": _of(KeysRule, "hot_keys", whole(0, 100)),
        "missing": _of(KeysRule, "missing", choice(Missing)),
        "overrides": Field("overrides", rates_by_value, default=MappingProxyType({})),
    }
)
TASKS = MappingProxyType(
    {
        "every": Field("every_s", positive_duration, null=True),
        "every_s": Field("every_s", refused("Write `every: 60s`; tasks find it as `every_s`, in seconds.")),
    }
)
ADDRESS = re.compile(r"[0-9A-Za-z.:_-]{1,253}", re.ASCII)
WORKER = MappingProxyType(
    {
        "nice": _of(WorkerSettings, "nice", whole(-20, 19)),
        "drain": _of(WorkerSettings, "drain_s", duration),
        "revoke": _of(WorkerSettings, "revoke_s", duration),
        "commit_every": _of(WorkerSettings, "commit_every_s", positive_duration),
        "batch": _of(WorkerSettings, "batch", whole(1, 1_000_000)),
        "metrics_port": _of(WorkerSettings, "metrics_port", whole(1, 65535), null=True, falls_back=False),
        "metrics_address": _of(WorkerSettings, "metrics_address", text(ADDRESS, "an address of this machine")),
    }
)
FLEET_URL = re.compile(r"(redis|rediss|unix)://\S+")
FLEET = MappingProxyType(
    {
        "url": Field("url", text(FLEET_URL, "a Redis URL such as redis://localhost:6379/0")),
        "timeout": _of(FleetSettings, "timeout_s", positive_duration),
        "lease": _of(FleetSettings, "lease", flag),
        "live": _of(FleetSettings, "live", flag),
    }
)
GUARD = MappingProxyType(
    {
        "p99": _of(GuardSettings, "p99_s", positive_duration, null=True),
        "error_rate": _of(GuardSettings, "error_rate", share, null=True),
        "lag_growth": _of(GuardSettings, "lag_growth_per_s", rate, null=True),
        "loop_lag": _of(GuardSettings, "loop_lag_s", positive_duration, null=True),
    }
)
PROPAGATE = MappingProxyType(
    {
        "shadow": _of(PropagateSettings, "shadow", flag),
        "edge": _of(PropagateSettings, "edge", flag),
        "allow": _of(PropagateSettings, "allow", hosts),
        "unmarked": _of(PropagateSettings, "unmarked", hosts),
        "baggage": _of(PropagateSettings, "baggage", flag),
    }
)
ENGINE_OWNS = refused("Remove it: the engine commits each lane's offsets by its own books.")
KAFKA = MappingProxyType(
    {
        "bootstrap.servers": Field("bootstrap.servers", name_of_kafka),
        "group.id": Field("group.id", name_of_kafka, falls_back=False),
        "client.id": Field("client.id", name_of_kafka),
        "transactional.id": Field("transactional.id", name_of_kafka, null=True, falls_back=False),
        "enable.auto.commit": Field("enable.auto.commit", ENGINE_OWNS),
        "enable.auto.offset.store": Field("enable.auto.offset.store", ENGINE_OWNS),
    }
)
MARK = MappingProxyType(
    {
        "header": _of(MarkSettings, "header", text(HEADER_NAME, "a header name of 1 to 64 letters, digits and ._-")),
        "trust": _of(MarkSettings, "trust", choice(Trust)),
        "keys": Field("keys", anything, default=()),
        "max_age": _of(MarkSettings, "max_age_s", positive_duration),
        "skew": _of(MarkSettings, "skew_s", duration),
        "max_hops": _of(MarkSettings, "max_hops", whole(1, 999)),
    }
)

SECTIONS: Final[Mapping[str, Section]] = MappingProxyType(
    {
        "service": Section(
            {"service": Field("service", text(SERVICE, "1 to 200 letters, digits and ._-"))}, lanes=False
        ),
        "mark": Section(MARK, lanes=False),
        "kafka": Section(KAFKA, free=Field("", scalar, null=True)),
        "topics": Section(TOPICS, named=True),
        "rate_limit": Section(RATES, named=True),
        "multi_key_rate_limit_v2": Section(KEYS, named=True),
        "default_rate_limit": Section(DEFAULT_RATES),
        "resilience": Section(BREAKERS, named=True),
        "tasks": Section(TASKS, named=True, free=Field("", scalar, null=True)),
        "data": Section({}, named=True, free=Field("", anything, null=True, falls_back=False)),
        "worker": Section(WORKER),
        "fleet": Section(FLEET, lanes=False),
        "guard": Section(GUARD, lanes=False),
        "propagate": Section(PROPAGATE, lanes=False),
    }
)
