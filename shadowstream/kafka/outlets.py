"""Durable copies of messages that do not go the straight way: parked, quarantined, resting, dead-lettered.

A copy keeps key, value, timestamp and headers, the mark among them, and is labelled with where it came from, why and
by whom (``labels``). The source offset is answered for only after the copy's delivery report. Traps:

* An undelivered copy is tried again for as long as the process lives; its offset stays uncommitted meanwhile
  (``test_an_undelivered_copy_is_tried_again_and_its_offset_waits``).
* A copy that is too large with its new headers goes without its value, pointing at the original
  (``test_a_copy_too_large_for_the_broker_goes_without_its_value``).
* A broker refuses a whole batch for one message in it: a refused copy is tried by itself before its value is left out
  (``test_a_copy_that_shared_its_batch_with_one_too_large_keeps_its_value``).
* A non-UTF-8 header key makes the client refuse all headers of that message: the copy then has only ours.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, cast

from confluent_kafka import KafkaError, KafkaException

from shadowstream.events import CopyFailed
from shadowstream.headers import UNREADABLE
from shadowstream.kafka.clients import Throttle, explained, logger_of
from shadowstream.kafka.clock import REAL_CLOCK, Clock
from shadowstream.kafka.labels import LEFT_OUT, REASON, copied, error_labels
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message as RawMessage
    from confluent_kafka import Producer as RawProducer

    from shadowstream.events import Listeners
    from shadowstream.kafka.labels import Headers, Scribe, Story
    from shadowstream.kafka.offsets import Piece
    from shadowstream.kafka.transactions import Slips

__all__ = ["Interrupted", "Outlets", "Senders", "headers_of", "retry_topic", "side_topics"]

RETRY_S = 1.0


# Not `raw.headers()`: once the interpreter has specialised such a call it no longer looks whether the client set an
# error, and hands out the broken list of a message whose header key is not UTF-8.
_checked_headers = methodcaller("headers")


class Interrupted(Exception):  # noqa: N818 - not an error: the cursor stops or the partition goes
    """The copy was not queued because the work was called off."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy on its way."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = field(repr=False)
    timestamp: int
    """Milliseconds since the epoch; 0: let the client choose."""
    piece: Piece
    token: tuple[int, int]
    alone: bool = False
    """Whether it goes in a batch of its own."""


def side_topics(name: str, lane: Lane) -> dict[str, str]:
    """Return where a topic's parked, quarantined and dead-lettered messages of one lane go."""
    dead = f"{name}.dlq" if lane is Lane.NORMAL else f"{name}.shadow.dlq"
    return {"parked": f"{name}.shadow.parked", "quarantine": f"{name}.quarantine", "dlq": dead}


def retry_topic(name: str, lane: Lane) -> str:
    """Return where a topic's messages of one lane rest between two rounds; only that lane reads it."""
    return f"{name}.retry" if lane is Lane.NORMAL else f"{name}.shadow.retry"


def headers_of(raw: RawMessage) -> Headers | None:
    """Return a message's headers; None when it has none.

    Ask once: after the error the client has a broken list, gives that without an error, and reading it crashes.

    Raises:
        SystemError: a header key is not UTF-8, and the client gives none of them.
    """
    # The client types headers as what produce() takes; consumed ones are a list with binary values.
    return cast("Headers | None", _checked_headers(raw))


class Senders:
    """The clients that one lane's copies go through."""

    def __init__(self, make: Callable[..., RawProducer]) -> None:
        self.together = make()
        """For nearly all of them."""
        self._make = make
        self._alone: RawProducer | None = None

    @property
    def alone(self) -> RawProducer:
        """For those that are to be in a batch of their own; made when the first one comes, by the owner thread."""
        if self._alone is None:
            self._alone = self._make(**{"batch.num.messages": 1})
        return self._alone

    def client(self, copy: Copy) -> RawProducer:
        """Return what sends a copy."""
        return self.alone if copy.alone else self.together

    def poll(self, seconds: float) -> None:
        """Take delivery reports, waiting at most so long."""
        if self._alone is not None:
            self._alone.poll(0)
        self.together.poll(seconds)


class Outlets:
    """Sends one lane's copies of one topic's messages; shared by its strands."""

    def __init__(
        self,
        senders: Senders | Slips,
        name: str,
        scribe: Scribe,
        listeners: Listeners,
        *,
        returns: bool = False,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._senders = senders
        self._topics = {**side_topics(name, scribe.lane), "retry": retry_topic(name, scribe.lane)}
        self._returns = returns
        """Whether the messages come from the retry topic: then they know where they were first read."""
        self._scribe = scribe
        self._lane = scribe.lane
        self._listeners = listeners
        self._now = clock.monotonic
        self._again: deque[tuple[float, Copy]] = deque()
        self._throttle = Throttle(logger_of("outlets").error)

    def park(self, raw: RawMessage, piece: Piece) -> None:
        """Keep a refused shadow message for later."""
        self._send("parked", raw, piece, [(REASON, b"refused")])

    def quarantine(self, raw: RawMessage, piece: Piece, reason: str) -> None:
        """Set a message aside whose lane cannot be told or trusted."""
        readable = reason != UNREADABLE.reason
        self._send("quarantine", raw, piece, [(REASON, reason.encode())], readable=readable)

    def dead_letter(self, raw: RawMessage, piece: Piece, error: BaseException, story: Story) -> None:
        """Set a message aside that its handler could not handle."""
        self._send("dlq", raw, piece, [*story.headers(), *error_labels(error)])

    def retry(self, raw: RawMessage, piece: Piece, error: BaseException, story: Story) -> None:
        """Let a message that its handler could not handle rest, and come again when its story says so."""
        self._send("retry", raw, piece, [*story.headers(), *error_labels(error)])

    def bury(self, raw: RawMessage, piece: Piece) -> None:
        """Set a message aside that came back without its value, with the story it has."""
        self._send("dlq", raw, piece, [])

    def serve(self) -> None:
        """Take delivery reports and send again what is due; the owner thread calls it on every turn."""
        self._senders.poll(0)
        while self._again and self._again[0][0] <= self._now() and self._queue(self._again[0][1]):
            self._again.popleft()

    def _send(self, kind: str, raw: RawMessage, piece: Piece, why: Headers, *, readable: bool = True) -> None:
        copy = Copy(
            topic=self._topics[kind],
            key=raw.key(),
            value=raw.value(),
            headers=copied(raw, (readable and headers_of(raw)) or [], self._scribe, why, returns=self._returns),
            timestamp=max(raw.timestamp()[1], 0),
            piece=piece,
            token=piece.hold(raw),
        )
        while not self._queue(copy):
            self._senders.poll(0.05)
            if piece.cancelled:
                piece.release(copy.token)
                raise Interrupted

    def _queue(self, copy: Copy) -> bool:
        """Give a copy to the client; False when its queue is full."""
        try:
            self._senders.client(copy).produce(
                copy.topic,
                copy.value,
                copy.key,
                headers=list(copy.headers),
                timestamp=copy.timestamp,
                on_delivery=partial(self._reported, copy),
            )
        except BufferError:
            return False
        except KafkaException as error:
            self._failed(copy, error.args[0])
        return True

    def _reported(self, copy: Copy, error: KafkaError | None, _message: RawMessage) -> None:
        if error is None:
            copy.piece.release(copy.token)
        else:
            self._failed(copy, error)

    def _failed(self, copy: Copy, error: KafkaError) -> None:
        self._listeners.on(CopyFailed(self._lane, copy.topic, error.name()))
        self._throttle.say(copy.topic, f"copy_failed lane={self._lane} topic={copy.topic} error={explained(error)!r}")
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and copy.value is not None:
            headers = [*copy.headers, (LEFT_OUT, b"value")]
            copy = replace(copy, value=None, headers=headers) if copy.alone else replace(copy, alone=True)
        self._again.append((self._now() + RETRY_S, copy))
