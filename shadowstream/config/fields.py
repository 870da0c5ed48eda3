"""Every section, every field in it, and how the value of each is read, shown and masked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shadowstream.config.model import (
    BreakerRule,
    KeysRule,
    MarkSettings,
    OnLimit,
    Order,
    RateRule,
    Route,
    TopicSettings,
    Trust,
    WorkerSettings,
)

if TYPE_CHECKING:
    from enum import StrEnum

__all__ = ["SECTIONS", "Field", "Section", "WrongValueError", "masked", "meant", "said"]

Reader = Callable[[object], object]

NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
RATE = re.compile(NUMBER + r"\s*(?:/\s*([smh]))?")
DURATION = re.compile(NUMBER + r"\s*(ms|s|m|h|d)?")
SIZE = re.compile(NUMBER + r"\s*(B|KB|MB|GB|KIB|MIB|GIB)?", re.IGNORECASE)
SECONDS: Final = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
BYTES: Final = MappingProxyType(
    {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
)
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
SERVICE = re.compile(r"[A-Za-z0-9._-]{1,200}")
SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret(?!_env)|token|credential|private|jaas|api_?key|access_?key|oauthbearer\.config"
    r"|ssl[._](key|keystore)([._](pem|password))?$",
    re.IGNORECASE,
)
USERINFO = re.compile(r"(://[^/@\s:]*):\S*@")
INLINE_SECRET = re.compile(r"((?:password|passwd|pwd|secret|token)\s*=\s*)('[^']*'|[^\s;&]+)", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""What is surely the name of an environment variable; anything else may be the secret itself, put in its place."""
MASK = "***"
MOST_ROUNDS: Final = 1000
LONGEST_REST_S: Final = 86400.0
SHOWN = 80
"""The longest part of a wrong value that a message quotes."""


class WrongValueError(Exception):
    """A value cannot be what its field needs: what is wrong, and the cure."""

    def __init__(self, wrong: str, cure: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.cure = cure


def said(value: object, key: str) -> str:
    """Name a value in a message, never a secret."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(masked(value, key))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def masked(value: object, key: str) -> object:
    """Return a value as it may be shown: secrets, and passwords inside URLs, are starred out."""
    if value is not None and (SECRET.search(key) or (key == "secret_env" and not VARIABLE.fullmatch(str(value)))):
        return MASK
    if isinstance(value, Mapping):
        return {name: masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, key) for item in value]
    if isinstance(value, str):
        return INLINE_SECRET.sub(rf"\1{MASK}", USERINFO.sub(rf"\1:{MASK}@", value))
    return value


def meant(key: str, known: tuple[str, ...]) -> str:
    """Return the cure for a key that is not known: the one meant, or all there are."""
    close = get_close_matches(key, known, n=1) or [each for each in known if each.startswith(key)]
    return f"Did you mean `{close[0]}`?" if close else f"Use one of: {', '.join(known)}."


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


def _wrong(value: object, kind: str, cure: str) -> WrongValueError:
    return WrongValueError(f"is {said(value, '')}, which is not {kind}", cure)


def _measured(value: object, pattern: re.Pattern[str], kind: str, cure: str) -> tuple[float, str | None]:
    text = f"{value:.15g}" if isinstance(value, float) and math.isfinite(value) else str(value)
    match = pattern.fullmatch(text.strip()) if isinstance(value, str | int | float) else None
    if match is None or isinstance(value, bool):
        raise _wrong(value, kind, cure)
    return float(match[1]), match[2]


def rate(value: object) -> float:
    """Read ``800/s``, ``60/m``, ``10/h`` or a bare number as a number per second."""
    cure = "Write 800/s, 60/m, 10/h or a bare number per second; 0 admits nothing, null is no limit."
    amount, unit = _measured(value, RATE, "a rate", cure)
    return amount / SECONDS[unit or "s"]


def duration(value: object) -> float:
    """Read ``500ms``, ``30s``, ``5m``, ``6h``, ``1d`` or a bare number as seconds."""
    amount, unit = _measured(value, DURATION, "a duration", "Write 500ms, 30s, 5m, 6h, 1d or a bare number of seconds.")
    return amount * SECONDS[unit or "s"]


def positive_duration(value: object) -> float:
    """Read a duration that is not 0."""
    seconds = duration(value)
    if seconds <= 0:
        raise _wrong(value, "longer than 0", "Write a duration above 0, such as 30s.")
    return seconds


def rest(value: object) -> float:
    """Read a duration of a day at most: what rests for longer than its topic's retention is deleted unhandled."""
    seconds = duration(value)
    if seconds > LONGEST_REST_S:
        raise _wrong(value, "a rest of a day at most", "Write a duration up to 1d, such as 30s.")
    return seconds


def size(value: object) -> int:
    """Read ``32MiB``, ``900KB`` or a bare number as bytes, at least one."""
    cure = "Write 32MiB, 900KB or a bare number of bytes, at least 1."
    amount, unit = _measured(value, SIZE, "a size", cure)
    count = int(amount * BYTES[(unit or "B").upper()])
    if count < 1:
        raise _wrong(value, "a size of at least one byte", cure)
    return count


def whole(low: int, high: int = 10**9) -> Reader:
    """Return a reader of whole numbers within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(value, f"a whole number from {low} to {high}", f"Write a whole number, {low} or more.")
        return value

    return read


def share(value: object) -> float:
    """Read a share of calls: above 0, at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _wrong(value, "a share above 0 and up to 1", "Write a share of the calls, such as 0.5.")
    return float(value)


def choice(kinds: type[StrEnum]) -> Reader:
    """Return a reader of one of some words."""
    words = tuple(kind.value for kind in kinds)

    def read(value: object) -> StrEnum:
        if value not in words:
            raise _wrong(value, f"one of {', '.join(words)}", meant(str(value), words))
        return kinds(value)

    return read


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise _wrong(value, "true or false", "Write true or false.")
    return value


def text(pattern: re.Pattern[str], kind: str) -> Reader:
    """Return a reader of text that matches a pattern."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _wrong(value, kind, f"Write {kind}.")
        return value

    return read


def words(value: object) -> tuple[str, ...]:
    """Read a list of different names."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise _wrong(value, "a list of names", "Write a list such as [user_id, promotion_id].")
    if len(set(value)) != len(value):
        raise WrongValueError("names one field twice", "Name each field once.")
    return tuple(value)


def scalar(value: object) -> object:
    """Read any single value."""
    if isinstance(value, list | Mapping) or (isinstance(value, float) and not math.isfinite(value)):
        raise _wrong(value, "a single value", "Write text, a number, true or false.")
    return value


def name_of_kafka(value: object) -> str:
    """Read a text that Kafka identifies something by."""
    if isinstance(value, bool | float | list | Mapping) or not str(value).strip():
        raise _wrong(value, "a text", "Write a text that is not empty.")
    return str(value)


def anything(value: object) -> object:
    """Read any value."""
    return value


def refused(cure: str) -> Reader:
    """Return a reader that accepts nothing, for keys that are ours to set."""

    def read(_value: object) -> object:
        raise WrongValueError("is not for the configuration to set", cure)

    return read


def _on_soft(value: object) -> str:
    words = ("admit", "wait")
    if value not in words:
        raise _wrong(value, "one of admit, wait", meant(str(value), words))
    return str(value)


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
        "on_soft": _of(RateRule, "on_soft", _on_soft),
    }
)
DEFAULT_RATES = MappingProxyType(
    {"soft_rate_limit": RATES["soft"], "hard_rate_limit": RATES["hard"], "burst": RATES["burst"]}
)
BREAKERS = MappingProxyType(
    {
        "failure_rate": _of(BreakerRule, "failure_rate", share),
        "window": _of(BreakerRule, "window", whole(1, 1_000_000)),
        "min_calls": _of(BreakerRule, "min_calls", whole(1, 1_000_000)),
        "slow_call": _of(BreakerRule, "slow_call_s", positive_duration, null=True),
        "slow_rate": _of(BreakerRule, "slow_rate", share),
        "open_for": _of(BreakerRule, "open_for_s", positive_duration),
        "half_open": _of(BreakerRule, "half_open", whole(1)),
        "max_concurrent": _of(BreakerRule, "max_concurrent", whole(1), null=True),
        "timeout": _of(BreakerRule, "timeout_s", positive_duration, null=True),
    }
)
KEYS = MappingProxyType(
    {
        "keys": _of(KeysRule, "keys", words),
        "hard": _of(KeysRule, "hard_per_s", rate, null=True),
        "burst": _of(KeysRule, "burst", whole(1), null=True),
        "max_keys": _of(KeysRule, "max_keys", whole(1)),
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
        "header": _of(
            MarkSettings, "header", text(HEADER, "a header name of 1 to 64 letters, digits and -._~!#$%&'*+^`|")
        ),
        "trust": _of(MarkSettings, "trust", choice(Trust)),
        "keys": Field("keys", anything, default=()),
        "max_age": _of(MarkSettings, "max_age_s", positive_duration),
        "skew": _of(MarkSettings, "skew_s", duration),
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
    }
)
