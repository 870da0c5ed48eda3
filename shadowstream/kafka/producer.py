"""confluent-kafka's producer, plus the mark.

One client per lane, made when the lane first produces, so that a full or throttled shadow queue never refuses a normal
message and broker quotas on ``client.id`` fence the lanes too. Traps:

* Inside a handler each produced message holds its source offset back until the delivery report
  (``test_an_undelivered_output_keeps_its_source_uncommitted``). Outside a handler nothing is held and the caller polls
  and flushes as with confluent-kafka.
* The client takes a callback under two names, and one given as None hides the other: ours goes under the first
  (``test_each_produced_message_is_reported_to_its_callback_whatever_else_was_said``).
* Inside a handler of a transactional topic its outbox stands where the client would, and the message goes with the
  transaction of its source (``test_what_a_handler_produces_waits_for_its_source``).
* Clients are made on first use, not in the constructor: a client does not survive a fork.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from shadowstream.config import Route
from shadowstream.errors import MarkError
from shadowstream.events import Listeners, Produced
from shadowstream.headers import MarkReader, MarkWriter
from shadowstream.kafka.clients import explained, logger_of, producer_of
from shadowstream.kafka.offsets import source
from shadowstream.kafka.transactions.outbox import Outbox
from shadowstream.lane import Lane, Mark, mark_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage
    from confluent_kafka import Producer as RawProducer

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Hook
    from shadowstream.headers import Reading
    from shadowstream.kafka.offsets import Piece, Token

    Headers = list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None]
    OnDelivery = Callable[[KafkaError | None, RawMessage], None]

__all__ = ["Producer", "not_for_normal", "rerouted"]

log = logger_of("producer")

POLL_S = 0.005


class Producer:
    """Produces in the lane of the work at hand; signatures and callbacks are confluent-kafka's."""

    def __init__(
        self,
        settings: Settings,
        *,
        max_block_s: float = 60.0,
        client_of: Callable[[LaneSettings], RawProducer] = producer_of,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self._settings = settings
        self._client_of = client_of
        self._max_block_s = max_block_s
        self._name = settings.mark.header
        self._reader = MarkReader.of(settings.mark)
        self._writer = MarkWriter.of(settings.mark)
        # One attribute each: an enum as a dictionary's key costs more than stamping a message.
        self._normal: RawProducer | None = None
        self._shadow: RawProducer | None = None
        self._making = threading.Lock()
        self._served: set[RawProducer] = set()
        self._rerouted = rerouted(settings)
        self._shadows = frozenset(self._rerouted.values())
        """Topics that are shadow's alone."""
        self._stamped: tuple[Mark | None, float, list[tuple[str, bytes]]] = (None, 0.0, [])
        self._listeners = Listeners(hooks)
        self._counting, self._counts = threading.Lock(), Counter[str]()
        """Shadow messages by topic, since they were announced."""

    def produce(  # noqa: PLR0913 - confluent-kafka's signature
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Queue one message; in the shadow lane it is stamped with the mark.

        ``timestamp`` is in milliseconds since the epoch. A full queue is waited for, at most ``max_block_s`` seconds.

        Raises:
            BufferError: the lane's queue stayed full.
            MarkError: ``headers`` carry a mark that is not the one of the work at hand, or the topic is shadow's alone
                and this is normal work.
            ConfigError: the work at hand is shadow and the shadow lane is off.
            SetupError: the client refuses a property of the lane.
        """
        mark = mark_here()
        pairs: Any = headers
        if headers is not None:
            mark, pairs = self._agreed(mark, headers)
        if mark is None:
            if topic in self._shadows:
                raise not_for_normal(topic)
            client = self._normal
            if client is None:
                client = self._client(Lane.NORMAL)
        else:
            client, topic, pairs = self._in_shadow(mark, topic, pairs)
        if (origin := source.get()) is not None:
            client, on_delivery = self._bound(origin, client, on_delivery)
        try:
            if on_delivery is None and partition == -1 and timestamp == 0:
                # What nearly every caller says; the client parses each further argument anew for each message.
                client.produce(topic, value, key, headers=pairs)
            else:
                client.produce(topic, value, key, partition, on_delivery, None, timestamp, pairs)
        except BufferError:
            again = partial(client.produce, topic, value, key, partition, on_delivery, None, timestamp, pairs)
            self._produce_later(client, again)

    def _in_shadow(self, mark: Mark, topic: str, pairs: Any) -> tuple[RawProducer, str, Any]:  # noqa: ANN401 - headers
        """Return what sends a shadow message, where it goes, and its headers with the mark."""
        client = self._shadow
        if client is None:
            client = self._client(Lane.SHADOW)
        last, fresh_until, stamp = self._stamped
        if mark is not last or monotonic() > fresh_until:
            stamp = self._stamp(mark)
        if self._rerouted:
            topic = self._rerouted.get(topic, topic)
        if self._listeners:
            with self._counting:
                self._counts[topic] += 1
        return client, topic, [*pairs, *stamp] if pairs else stamp

    def poll(self, timeout: float = 0.0) -> int:
        """Serve delivery reports of both lanes, waiting at most ``timeout`` seconds; returns how many."""
        until = monotonic() + timeout
        while (served := sum(client.poll(0) for client in self._clients())) == 0 and monotonic() < until:
            time.sleep(POLL_S)
        return served

    def flush(self, timeout: float = -1) -> int:
        """Wait until everything is delivered, at most ``timeout`` seconds (-1: no bound); returns what is left."""
        self._announce()
        until = monotonic() + timeout
        left = 0
        for client in self._clients():
            left += client.flush(timeout if timeout < 0 else max(0.0, until - monotonic()))
        return left

    def __len__(self) -> int:
        """Return how many messages wait to be delivered, both lanes together."""
        return sum(map(len, self._clients()))

    def __bool__(self) -> bool:
        """Be true, with nothing in the queue too."""
        return True

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:  # noqa: ANN401 - confluent-kafka's
        """Ask the cluster what topics it has."""
        return self._client(Lane.NORMAL).list_topics(topic, timeout=timeout)

    def _clients(self) -> list[RawProducer]:
        return [client for client in (self._normal, self._shadow) if client is not None]

    def _client(self, lane: Lane) -> RawProducer:
        """Return the lane's client, made if this is the first time."""
        name = "_normal" if lane is Lane.NORMAL else "_shadow"
        with self._making:
            client: RawProducer | None = getattr(self, name)
            if client is None:
                client = self._client_of(self._settings.of(lane))
                setattr(self, name, client)
        return client

    def _stamp(self, mark: Mark) -> list[tuple[str, bytes]]:
        # A mark is read once and then shared by all messages of a run, so the last one is nearly always this one.
        self._announce()
        stamp = [(self._name, self._writer.onward(mark, time.time()))]
        self._stamped = (mark, monotonic() + 1.0, stamp)
        return stamp

    def _announce(self) -> None:
        if self._counts:
            with self._counting:
                counts, self._counts = self._counts, Counter()
            self._listeners.on(Produced(Lane.SHADOW, counts))

    def _agreed(self, mark: Mark | None, headers: Headers) -> tuple[Mark | None, Any]:
        """Take a mark that the caller forwarded by hand out of the headers; it must be the one of the work at hand."""
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        forwarded = [pair for pair in pairs if pair[0] == self._name]
        if not forwarded:
            return mark, pairs
        reading = self._forwarded(forwarded)
        if reading.mark is None or (mark is not None and reading.mark.run != mark.run):
            raise MarkError(
                f"headers carry {self._name}={forwarded[0][1]!r} ({reading.reason or reading.kind}) but the work at"
                f" hand is {mark or 'normal'}; leave the header out, produce() stamps it by itself"
            )
        return mark or reading.mark, [pair for pair in pairs if pair[0] != self._name]

    def _forwarded(self, pairs: list[tuple[str, str | bytes | None]]) -> Reading:
        encoded = [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
        return self._reader.read(encoded, time.time())

    def _bound(
        self, origin: Piece | Outbox, client: RawProducer, on_delivery: OnDelivery | None
    ) -> tuple[Any, OnDelivery | None]:
        """Tie a message to the one that is being handled: into its transaction, or else by holding its offset back."""
        if isinstance(origin, Outbox):
            if origin.cluster == self._cluster_of(client):
                return origin, on_delivery
            # A transaction ends at its cluster.
            origin = origin.piece
        held = origin.hold_current()
        if held is None:
            return client, on_delivery
        self._poll_in_background(client)
        return client, partial(_delivered, origin, *held, on_delivery)

    def _cluster_of(self, client: RawProducer) -> object:
        lane = Lane.NORMAL if client is self._normal else Lane.SHADOW
        return self._settings.of(lane).kafka["bootstrap.servers"]

    def _poll_in_background(self, client: RawProducer) -> None:
        if client in self._served:
            return
        with self._making:
            if client not in self._served:
                self._served.add(client)
                whose = (weakref.ref(self), client)
                threading.Thread(target=_serve, args=whose, name="delivery-reports", daemon=True).start()

    def _produce_later(self, client: RawProducer, again: Callable[[], None]) -> None:
        until = monotonic() + self._max_block_s
        while monotonic() < until:
            client.poll(0.05)
            try:
                return again()
            except BufferError:
                continue
        raise BufferError(
            f"the producer's queue stayed full for {self._max_block_s:g} s ({len(client)} messages wait);"
            " check the brokers, or raise queue.buffering.max.messages under `kafka:`"
        )


def not_for_normal(topic: str) -> MarkError:
    """Return the error of normal work that produces to a topic of shadow's own."""
    return MarkError(
        f"topic {topic!r} is shadow's and the work at hand is normal; produce to {topic.removeprefix('shadow.')!r},"
        " shadow work goes there by itself"
    )


def rerouted(settings: Settings) -> dict[str, str]:
    """Return where shadow messages go whose topic is not the normal one, by that."""
    if settings.shadow is None:
        return {}
    topics = settings.shadow.topics.values()
    return {topic.name: topic.source for topic in topics if topic.route is Route.TOPIC}


def _delivered(
    piece: Piece,
    token: Token,
    origin: RawMessage,
    on_delivery: OnDelivery | None,
    error: KafkaError | None,
    message: RawMessage,
) -> None:
    try:
        if on_delivery is not None:
            on_delivery(error, message)
    finally:
        if error is not None and piece.on_lost_output is not None:
            piece.on_lost_output(origin, f"an output to {message.topic()} was not delivered: {explained(error)}")
        piece.release(token)


def _serve(owner: weakref.ref[Producer], client: RawProducer) -> None:
    """Take delivery reports until the producer is gone and everything it was given is delivered or lost."""
    while owner() is not None or len(client):
        try:
            client.poll(1.0)
        except Exception:
            log.exception("delivery_callback_failed")
