"""What one call of a handler produced; it stands where the producer would use its client.

Traps:

* A handler that fails has produced nothing: only when it has returned do its outputs wait for their transaction
  (``test_a_retry_leaves_nothing_of_the_failed_attempt``).
* A call's outbox closes with the call. What a thread that it left behind produces later belongs to no transaction any
  more, and says so (``test_what_is_produced_after_the_handler_has_returned_is_refused``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from shadowstream.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage

    from shadowstream.config import TopicSettings
    from shadowstream.kafka.offsets import Piece

    OnDelivery = Callable[[KafkaError | None, RawMessage], None]

__all__ = ["Outbox", "Output"]


@dataclass(slots=True, eq=False)
class Output:
    """One message that waits to be produced."""

    topic: str
    value: str | bytes | None
    key: str | bytes | None
    partition: int
    timestamp: int
    """Milliseconds since the epoch."""
    headers: list[tuple[str, Any]] | None = field(repr=False)
    on_delivery: OnDelivery | None = None
    """The user's; called once, when it is known for good how it ended."""
    copy: bool = False
    """Whether it is a copy of its source that was set aside."""
    alone: bool = False
    """Whether it goes in a batch of its own."""
    turn: object = None
    """The transaction that it was last in."""
    error: KafkaError | None = None
    """Why it was not delivered in the last transaction."""
    report: RawMessage | None = None
    """What the client said of it last."""

    @property
    def size(self) -> int:
        """Return the bytes of its payload."""
        return len(self.value or "") + len(self.key or "")


class Outbox:
    """Takes what one call of a handler produces."""

    def __init__(self, piece: Piece, topic: TopicSettings, cluster: object, wall: Callable[[], float]) -> None:
        self.piece = piece
        self.cluster = cluster
        """The brokers that the transaction is on: nothing for others can be in it."""
        self._topic = topic
        self._wall = wall
        self._outputs: list[Output] = []
        self._bytes = 0
        self._closed = False
        self._lock = Lock()

    def produce(  # noqa: PLR0913 - confluent-kafka's signature
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
        _second_name: None = None,
        timestamp: int = 0,
        headers: list[tuple[str, Any]] | dict[str, Any] | None = None,
    ) -> None:
        """Keep one message for the transaction.

        Raises:
            SetupError: the handler has returned, or has produced more than its topic's bound.
        """
        pairs = list(headers.items() if isinstance(headers, dict) else headers) if headers else None
        at = timestamp or int(self._wall() * 1000)
        output = Output(topic, value, key, partition, at, pairs, on_delivery)
        with self._lock:
            self._check(output)
            self._outputs.append(output)
            self._bytes += output.size

    def close(self) -> list[Output]:
        """Take nothing further; returns what was produced."""
        with self._lock:
            self._closed = True
        return self._outputs

    def _check(self, output: Output) -> None:
        topic = self._topic
        if self._closed:
            raise SetupError(
                f"produce() to {output.topic} after the handler of {topic.name} has returned: its transaction cannot"
                " take it any more; produce before the handler returns, or start the work outside of it"
            )
        if len(self._outputs) >= topic.max_messages or self._bytes + output.size > topic.max_bytes:
            raise SetupError(
                f"one call of the handler of {topic.name} produced more than a transaction may hold"
                f" ({topic.max_messages} messages, {topic.max_bytes} bytes); produce less at once, or raise"
                " max_messages and max_bytes of the topic"
            )
