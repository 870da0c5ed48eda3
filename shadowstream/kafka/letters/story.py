"""What happened to a letter, told by its headers: pure, and content with whatever is there.

Letters may have been written by Spring, by older versions of ours or by anybody: what is missing, cut short or in no
known form reads as None. Where a header is there twice, the last one counts: a copy of a copy appends its own.
Trap: the mark's header may be named like one of ours, and is never taken off
(``test_a_mark_header_named_like_ours_stays_on``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from shadowstream.kafka.outlets import Headers

    T = TypeVar("T")

__all__ = ["REPLAYED", "Story", "own_headers", "story_of"]

OURS = ("kafka_dlt-", "shadowstream-")
REPLAYED = "shadowstream-replayed"
DECIMAL = re.compile(rb"[0-9]{1,18}", re.ASCII)
PYTHON_TRACE = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Story:
    """What a letter's headers tell; None for what they do not."""

    topic: str | None = None
    """The Kafka topic it was first read from; likewise partition, offset and timestamp."""
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    """Milliseconds since the epoch; likewise the other times."""
    group: str | None = None
    """The consumer group that set it aside."""
    exception: str | None = None
    """The exception's class, with its module."""
    cause: str | None = None
    """The class of what the exception wraps; Spring wraps whatever a listener raises."""
    message: str | None = None
    trace: str | None = None
    reason: str | None = None
    """Why it was parked or quarantined."""
    attempts: int | None = None
    first_failed_ms: int | None = None
    failed_at_ms: int | None = None
    command: str | None = None
    lane: Lane | None = None
    """The lane of whoever set it aside."""
    left_out: bool = False
    """Whether the copy had to go without its value."""
    replayed: int = 0
    """How many times it has been sent back."""

    @property
    def at(self) -> str | None:
        """The line of the trace that says most: where Python raised, the first one of any other trace."""
        lines = [line.strip() for line in (self.trace or "").splitlines() if line.strip()]
        frames = [line for line in lines if line.startswith('File "')]
        if frames:
            return frames[-1]
        return next((line for line in lines if line != PYTHON_TRACE), None)


def story_of(headers: Iterable[tuple[str, bytes | None]]) -> Story:
    """Read a letter's story."""
    last = {name: value for name, value in headers if value is not None and name.startswith(OURS)}

    def told(name: str, read: Callable[[bytes], T | None]) -> T | None:
        value = last.get(name)
        return None if value is None else read(value)

    return Story(
        topic=told("kafka_dlt-original-topic", _strict_text),
        partition=told("kafka_dlt-original-partition", _big_endian(4)),
        offset=told("kafka_dlt-original-offset", _big_endian(8)),
        timestamp_ms=told("kafka_dlt-original-timestamp", _big_endian(8)),
        group=told("kafka_dlt-original-consumer-group", _text),
        exception=told("kafka_dlt-exception-fqcn", _text),
        cause=told("kafka_dlt-exception-cause-fqcn", _text),
        message=told("kafka_dlt-exception-message", _text),
        trace=told("kafka_dlt-exception-stacktrace", _text),
        reason=told("shadowstream-reason", _text),
        attempts=told("shadowstream-attempts", _decimal),
        first_failed_ms=told("shadowstream-first-failed", _decimal),
        failed_at_ms=told("shadowstream-failed-at", _decimal),
        command=told("shadowstream-command", _strict_text),
        lane=told("shadowstream-lane", _lane),
        left_out="shadowstream-left-out" in last,
        replayed=told(REPLAYED, _decimal) or 0,
    )


def own_headers(headers: Iterable[tuple[str, bytes | None]], mark_name: str) -> Headers:
    """Return the headers that the message had before it was set aside, the mark among them, in their order."""
    return [(name, value) for name, value in headers if name == mark_name or not name.startswith(OURS)]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _strict_text(value: bytes) -> str | None:
    """Read a name that something is looked up by: half a name would find the wrong thing."""
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None


def _big_endian(size: int) -> Callable[[bytes], int | None]:
    def read(value: bytes) -> int | None:
        number = int.from_bytes(value, "big", signed=True)
        return number if len(value) == size and number >= 0 else None

    return read


def _decimal(value: bytes) -> int | None:
    return int(value) if DECIMAL.fullmatch(value) else None


def _lane(value: bytes) -> Lane | None:
    return next((lane for lane in Lane if lane.value.encode() == value), None)
