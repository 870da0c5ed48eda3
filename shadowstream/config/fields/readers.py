"""How the values of a configuration are read, shown in messages, and masked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from enum import StrEnum

__all__ = [
    "VARIABLE",
    "Reader",
    "WrongValueError",
    "anything",
    "choice",
    "duration",
    "flag",
    "growth",
    "hosts",
    "masked",
    "meant",
    "name_of_kafka",
    "names",
    "on_soft",
    "part",
    "positive_duration",
    "rate",
    "rates_by_value",
    "refused",
    "rest",
    "said",
    "scalar",
    "share",
    "size",
    "text",
    "whole",
    "words",
]

Reader = Callable[[object], object]

NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
RATE = re.compile(NUMBER + r"\s*(?:/\s*([smh]))?")
DURATION = re.compile(NUMBER + r"\s*(ms|s|m|h|d)?")
SIZE = re.compile(NUMBER + r"\s*(B|KB|MB|GB|KIB|MIB|GIB)?", re.IGNORECASE)
SECONDS: Final = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
BYTES: Final = MappingProxyType(
    {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
)
HOST = re.compile(
    r"(?:(?:\*\.)?[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])"
    r"(?::[0-9]{1,5})?",
    re.IGNORECASE | re.ASCII,
)
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
MOST_GROWTH: Final = 10
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


def rates_by_value(value: object) -> Mapping[str, Mapping[str, float | None]]:
    """Read ``{user_id: {7: 50/s, 8: null}}``: the rates of some values, by key."""
    cure = "Write {user_id: {7: 50/s, 8: null}}: by key, the values and their rates; null is no limit."
    if not isinstance(value, Mapping) or not all(isinstance(each, Mapping) for each in value.values()):
        raise _wrong(value, "rates by key and value", cure)
    return MappingProxyType(
        {
            str(key): MappingProxyType({str(each): None if own is None else rate(own) for each, own in rates.items()})
            for key, rates in value.items()
        }
    )


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


def part(value: object) -> float:
    """Read a share that may be nothing at all: 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _wrong(value, "a share from 0 to 1", "Write a share, such as 0.1; 0 for none.")
    return float(value)


def growth(value: object) -> float:
    """Read a factor of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST_GROWTH:
        raise _wrong(value, f"a factor from 1 to {MOST_GROWTH}", "Write a factor, such as 2; 1 for always the same.")
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


def names(value: object) -> tuple[str, ...]:
    """Read a list of different names, which may be empty."""
    return () if value == [] else words(value)


def hosts(value: object) -> tuple[str, ...]:
    """Read a list of hosts, with or without a port, or with ``*.`` for all names below one; it may be empty."""
    found = names(value)
    for each in found:
        if not HOST.fullmatch(each):
            cure = "Write a host such as ss-business, ss-business:8080, *.voucher.internal or [::1]:8080; no URL."
            raise _wrong(each, "a host", cure)
    return found


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


def on_soft(value: object) -> str:
    """Read what becomes of a message above the soft limit."""
    words = ("admit", "wait")
    if value not in words:
        raise _wrong(value, "one of admit, wait", meant(str(value), words))
    return str(value)
