"""What happened to a letter, told by its headers: pure, and content with whatever is there.

Letters may have been written by Spring, by older versions of ours or by anybody: what is missing, cut short or in no
known form reads as None. Where a label is there twice, the last one counts: others append theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.kafka import labels
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Story", "story_of"]

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
    client: str | None = None
    """Whose client set it aside: its id, host and instance."""
    lane: Lane | None = None
    """The lane of whoever set it aside."""
    rounds: int = 0
    """How often it was sent to its retry topic."""
    due_ms: int | None = None
    """When it comes again from there."""
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
    last = {name: value for name, value in headers if value is not None and name.startswith(labels.OURS)}

    def told(name: str, read: Callable[[bytes], T | None]) -> T | None:
        value = last.get(name)
        return None if value is None else read(value)

    return Story(
        topic=told(labels.TOPIC, _strict_text),
        partition=told(labels.PARTITION, _big_endian(4)),
        offset=told(labels.OFFSET, _big_endian(8)),
        timestamp_ms=told(labels.TIMESTAMP, _big_endian(8)),
        group=told(labels.GROUP, _text),
        exception=told(labels.EXCEPTION, _text),
        cause=told(labels.CAUSE, _text),
        message=told(labels.MESSAGE, _text),
        trace=told(labels.TRACE, _text),
        reason=told(labels.REASON, _text),
        attempts=told(labels.ATTEMPTS, _decimal),
        first_failed_ms=told(labels.FIRST_FAILED, _decimal),
        failed_at_ms=told(labels.FAILED_AT, _decimal),
        client=told(labels.CLIENT, _text),
        command=told(labels.COMMAND, _strict_text),
        lane=told(labels.LANE, _lane),
        rounds=told(labels.ROUND, _decimal) or 0,
        due_ms=told(labels.DUE, _decimal),
        left_out=labels.LEFT_OUT in last,
        replayed=told(labels.REPLAYED, _decimal) or 0,
    )


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
