"""Labels: the headers that tell the story of a message that was set aside, for people, for tools, and for ourselves.

What Spring for Apache Kafka has a name for goes by that name, numbers big-endian; the others are ours, numbers and
times (milliseconds since the epoch) as decimals. Traps:

* The mark's header may be named like a label, and is never taken off
  (``test_a_mark_header_named_like_ours_stays_on``).
* A copy of a copy tells one story: old labels go before new ones come, or they pile up with each round
  (``test_a_copy_of_a_copy_tells_one_story``).
"""

from __future__ import annotations

import os
import socket
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shadowstream.kafka.offsets import offset_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import LaneSettings
    from shadowstream.lane import Lane

    Headers = list[tuple[str, bytes | None]]

__all__ = ["Scribe", "Story", "copied", "error_labels", "own_headers", "scribe_of"]

OURS = ("kafka_dlt-", "shadowstream-")

TOPIC = "kafka_dlt-original-topic"
PARTITION = "kafka_dlt-original-partition"
OFFSET = "kafka_dlt-original-offset"
TIMESTAMP = "kafka_dlt-original-timestamp"
TIMESTAMP_TYPE = "kafka_dlt-original-timestamp-type"
GROUP = "kafka_dlt-original-consumer-group"
EXCEPTION = "kafka_dlt-exception-fqcn"
CAUSE = "kafka_dlt-exception-cause-fqcn"
MESSAGE = "kafka_dlt-exception-message"
TRACE = "kafka_dlt-exception-stacktrace"
REASON = "shadowstream-reason"
LANE = "shadowstream-lane"
COMMAND = "shadowstream-command"
ATTEMPTS = "shadowstream-attempts"
FIRST_FAILED = "shadowstream-first-failed"
FAILED_AT = "shadowstream-failed-at"
ROUND = "shadowstream-round"
DUE = "shadowstream-due"
LEFT_OUT = "shadowstream-left-out"
CLIENT = "shadowstream-client"
REPLAYED = "shadowstream-replayed"
LABELS = frozenset((
    TOPIC, PARTITION, OFFSET, TIMESTAMP, TIMESTAMP_TYPE, GROUP, EXCEPTION, CAUSE, MESSAGE, TRACE, REASON, LANE, COMMAND,
    ATTEMPTS, FIRST_FAILED, FAILED_AT, ROUND, DUE, LEFT_OUT, CLIENT, REPLAYED,
))  # fmt: skip

MAX_TRACE = 8192
MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Scribe:
    """Who sets messages of one lane aside, as their copies tell it."""

    lane: Lane
    group: str
    client: str
    """The client's id, its host, and which of several workers there it is."""
    mark: str
    """The name of the header that is never taken for a label."""


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to a message so far, for whoever reads its letter."""

    command: str
    lane: Lane
    attempts: int = 0
    first_failed_at: float = 0.0
    """Unix seconds."""
    failed_at: float = 0.0
    """Unix seconds."""
    rounds: int = 0
    """How often it was sent to its retry topic."""
    due_at: float = 0.0
    """Unix seconds of when it comes again; 0: it does not."""

    def failed(self, now: float) -> Story:
        """Return the story with one more failure."""
        return replace(self, attempts=self.attempts + 1, first_failed_at=self.first_failed_at or now, failed_at=now)

    def headers(self) -> Headers:
        """Return it as headers; times in Unix milliseconds."""
        return [
            (LANE, self.lane.encode()),
            (COMMAND, self.command.encode()),
            (ATTEMPTS, b"%d" % self.attempts),
            (FIRST_FAILED, b"%d" % (self.first_failed_at * 1000)),
            (FAILED_AT, b"%d" % (self.failed_at * 1000)),
            *([(ROUND, b"%d" % self.rounds)] if self.rounds else ()),
            *([(DUE, b"%d" % (self.due_at * 1000))] if self.due_at else ()),
        ]


def scribe_of(lane: LaneSettings, mark: str) -> Scribe:
    """Return who a lane's copies are written by: this process, on this host."""
    instance = lane.kafka.get("group.instance.id") or os.getpid()
    client = f"{lane.kafka.get('client.id', '')}@{socket.gethostname()}/{instance}"
    return Scribe(lane.lane, str(lane.kafka["group.id"]), client, mark)


def own_headers(headers: Iterable[tuple[str, bytes | None]], mark: str) -> Headers:
    """Return the headers that the message had before it was set aside, the mark among them, in their order."""
    return [(name, value) for name, value in headers if name == mark or not name.startswith(OURS)]


def copied(raw: RawMessage, headers: Headers, scribe: Scribe, why: Headers, *, returns: bool = False) -> Headers:
    """Return the headers of a copy: a message's own ones, where it came from, who writes the copy, and why.

    One that ``returns`` from a retry topic keeps what its labels tell of where it came from at first.
    """
    before = _kept_labels(headers, scribe.mark) if returns else []
    origin = [] if TOPIC in dict(before) else _origin_labels(raw, scribe.group)
    return _told(headers, scribe.mark, origin, before, [(CLIENT, scribe.client.encode())], why)


def error_labels(error: BaseException) -> Headers:
    """Say what a handler raised, and where."""
    kind, cause = type(error), error.__cause__ or error.__context__
    trace = "".join(traceback.format_exception(error))
    return [
        (EXCEPTION, _name(kind)),
        (MESSAGE, str(error).encode(errors="replace")[:MAX_TEXT]),
        (TRACE, trace.encode(errors="replace")[-MAX_TRACE:]),
        *([(CAUSE, _name(type(cause)))] if cause is not None else ()),
    ]


def _kept_labels(headers: Headers, mark: str) -> Headers:
    """Return what is still true of a message that comes back from a retry topic: everything but when it is due."""
    return [(name, value) for name, value in headers if name.startswith(OURS) and name not in {mark, DUE}]


def _told(headers: Headers, mark: str, *labels: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return a message's own headers with these labels behind them: one of each name, what was told last."""
    kept = [(name, value) for name, value in headers if name == REPLAYED != mark]
    return [*own_headers(headers, mark), *dict(pair for each in (kept, *labels) for pair in each).items()]


def _origin_labels(raw: RawMessage, group: str) -> Headers:
    """Say where a message came from, numbers big-endian as Spring writes them."""
    kind, milliseconds = raw.timestamp()
    return [
        (TOPIC, (raw.topic() or "").encode()),
        (PARTITION, (raw.partition() or 0).to_bytes(4, "big", signed=True)),
        (OFFSET, offset_of(raw).to_bytes(8, "big", signed=True)),
        (TIMESTAMP, milliseconds.to_bytes(8, "big", signed=True)),
        (TIMESTAMP_TYPE, (b"NoTimestampType", b"CreateTime", b"LogAppendTime")[kind]),
        (GROUP, group.encode()),
    ]


def _name(kind: type[BaseException]) -> bytes:
    return f"{kind.__module__}.{kind.__qualname__}".encode()
