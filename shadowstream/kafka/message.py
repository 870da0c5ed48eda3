"""A message as handlers see it: confluent-kafka's accessors, and what shadowstream knows besides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from shadowstream.errors import SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage

    from shadowstream.lane import Mark

__all__ = ["Batch", "Message", "first_of", "values_of"]

IN_HEADERS: Final = "header:"
"""What a key begins with whose value is a header's."""


class Message:
    """One consumed message in its lane."""

    __slots__ = ("mark", "raw")

    def __init__(self, raw: RawMessage, mark: Mark | None = None) -> None:
        self.raw = raw
        """The client's own message."""
        self.mark = mark
        """The mark it carried; None in the normal lane."""

    @property
    def lane(self) -> Lane:
        """The lane it belongs to."""
        return Lane.NORMAL if self.mark is None else Lane.SHADOW

    @property
    def round(self) -> int:
        """How often it has rested in its retry topic; 0: it is handled for the first time."""
        return 0

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return the value decoded as JSON.

        Raises:
            ValueError: the value is empty or not JSON; the message names topic, partition and offset.
        """
        value = self.raw.value()
        if value is None:
            raise ValueError(f"{self}: the value is empty, not JSON")
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"{self}: the value is not JSON ({error})") from error

    def value(self) -> bytes | None:
        """Return the payload."""
        return self.raw.value()

    def key(self) -> bytes | None:
        """Return the key."""
        return self.raw.key()

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return all headers in their order, duplicates included; None when there are none."""
        # The client types headers as what produce() takes; consumed ones are a list with binary values.
        return cast("list[tuple[str, bytes | None]] | None", self.raw.headers())

    def topic(self) -> str | None:
        """Return the Kafka topic it was read from."""
        return self.raw.topic()

    def partition(self) -> int | None:
        """Return the partition it was read from."""
        return self.raw.partition()

    def offset(self) -> int | None:
        """Return its offset."""
        return self.raw.offset()

    def timestamp(self) -> tuple[int, int]:
        """Return the timestamp's type and its milliseconds since the epoch."""
        return self.raw.timestamp()

    def leader_epoch(self) -> int | None:
        """Return the leader's epoch, None when unknown."""
        return self.raw.leader_epoch()

    def error(self) -> KafkaError | None:
        """Return the client's error that stands in a message's place; None in a handler, where none arrives."""
        return self.raw.error()

    def ack(self) -> None:
        """Say that the message is done, when its handler settles by hand; from any thread, once.

        Raises:
            SetupError: its handler does not settle by hand.
        """
        raise _not_by_hand("ack")

    def nack(self, delay_s: float = 0.0) -> None:  # noqa: ARG002 - for those that are settled by hand
        """Ask for the message again after a delay, when its handler settles by hand.

        Raises:
            SetupError: its handler does not settle by hand.
        """
        raise _not_by_hand("nack")

    def park(self) -> None:
        """Set a shadow message aside in its parking topic, when its handler settles by hand.

        Raises:
            SetupError: its handler does not settle by hand, or the message is a normal one.
        """
        raise _not_by_hand("park")

    def __len__(self) -> int:
        """Return the payload's size in bytes."""
        return len(self.raw)

    def __bool__(self) -> bool:
        """Be true: an empty payload is a message too."""
        return True

    def __str__(self) -> str:
        """Name it by its place in the log."""
        return f"{self.topic()}[{self.partition()}]@{self.offset()}"

    def __repr__(self) -> str:
        """Name it by its place in the log and its lane."""
        return f"<Message {self} {self.lane}>"


class Batch(tuple[Message, ...]):  # noqa: SLOT001 - a tuple of any length has no room for slots
    """Messages that a handler is given together: one partition's, in order, of one run.

    Nobody can take one out: a batch that failed is given once more, whole.
    """

    mark: Mark | None
    """The mark that they carry; None in the normal lane."""
    alone: bool
    """Whether this is one message of a larger batch that failed."""

    def __new__(cls, messages: Iterable[Message], mark: Mark | None, *, alone: bool = False) -> Self:
        """Put messages together."""
        batch = super().__new__(cls, messages)
        batch.mark, batch.alone = mark, alone
        return batch


def first_of(work: Message | Batch) -> Message:
    """Return what stands for all that a handler is given."""
    return work if isinstance(work, Message) else work[0]


def values_of(keys: Iterable[str]) -> Callable[[Message], dict[str, object]]:
    """Return what finds the values of a limit's keys in a message.

    A key is a field of the payload, a JSON object, or ``header:NAME``, the last header of that name. What is not there,
    or cannot be read, is left out.
    """
    headers = {key: key.removeprefix(IN_HEADERS) for key in keys if key.startswith(IN_HEADERS)}
    fields = [key for key in keys if key not in headers]

    def found(message: Message) -> dict[str, object]:
        values: dict[str, object] = {}
        if fields:
            body = _object_in(message)
            values = {field: body[field] for field in fields if field in body}
        if headers:
            carried = dict(message.headers() or ())
            values |= {key: carried[name] for key, name in headers.items() if name in carried}
        return values

    return found


def _object_in(message: Message) -> dict[str, Any]:
    try:
        body = message.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _not_by_hand(call: str) -> SetupError:
    return SetupError(
        f'{call}(): this handler\'s messages are settled when it returns; register it with settle="by_hand" to do it'
        " yourself"
    )
