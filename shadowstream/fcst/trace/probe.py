"""Sends one probe, and writes down where it is seen, and whether with its mark.

A probe is known by its run where it has its mark, and by a word in its value where it has lost it. So the value must be
something that the chain's services carry on: an id that they copy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicPartition

from shadowstream.errors import BrokerError, SetupError
from shadowstream.headers import Kind, MarkReader, MarkWriter
from shadowstream.kafka import Producer
from shadowstream.kafka.clients import consumer_of, explained
from shadowstream.kafka.labels import REASON
from shadowstream.kafka.outlets import headers_of, retry_topic, side_topics
from shadowstream.lane import Lane, Mark, entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import Settings
    from shadowstream.fcst.trace.chain import Chain

__all__ = ["WORD", "Probe", "Seen", "Watch"]

WORD: Final = "{probe}"
"""What stands for the probe's own word in the value that is sent."""
ANSWER_S: Final = 10.0
POLL_S: Final = 0.05
BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe."""

    word: str = field(default_factory=lambda: f"probe{token_hex(6)}")
    """What it is known by, wherever its mark is lost."""

    @property
    def run(self) -> str:
        """Its run."""
        return f"trace-{self.word.removeprefix('probe')}"

    def within(self, value: str) -> str:
        """Return a value to send with its word in it, where ``{probe}`` stands.

        Raises:
            SetupError: the value has no place for the word.
        """
        if WORD not in value:
            raise SetupError(f"the value has no {WORD} in it, so a probe without its mark would never be known again")
        return value.replace(WORD, self.word)


@dataclass(frozen=True, slots=True)
class Seen:
    """One message that is the probe's."""

    topic: str
    """As the chain names it."""
    place: str
    """The Kafka topic: the same, ``shadow.`` and its name, or one beside it."""
    marked: bool
    hop: int
    after_s: float
    """Seconds since it was sent."""
    reason: str = ""
    """Why it was set aside, where it was."""


class Watch:
    """Reads the chain's topics from now on; use it in a ``with`` block.

    Raises:
        BrokerError: no broker answers.
        SetupError: a topic is not there, or a probe would never be known again.
    """

    def __init__(self, settings: Settings, chain: Chain, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._chain, self._clock = settings, chain, clock
        self._reader, self._writer = MarkReader.of(settings.mark), MarkWriter.of(settings.mark)
        self._consumer = consumer_of(settings.normal, **{"group.id": f"trace-{token_hex(6)}", "fetch.wait.max.ms": 50})
        self._places = {place: topic for topic in chain.before for place in _places_of(topic)}
        self._sent_at = 0.0
        self.header = settings.mark.header
        """The mark's name on every wire."""

    def __enter__(self) -> Self:
        """Stand at the end of everything."""
        try:
            known = self._consumer.list_topics(timeout=ANSWER_S).topics
            missing = [topic for topic in self._chain.before if topic not in known and f"shadow.{topic}" not in known]
            if missing:
                raise SetupError(f"the cluster has no {', '.join(missing)}; correct the chain, or create them")
            places = [
                TopicPartition(name, partition)
                for name in self._places
                if name in known
                for partition in known[name].partitions
            ]
            for place in places:
                # Now, and not when the first message would be fetched: the probe must not be sent before.
                place.offset = self._consumer.get_watermark_offsets(place, timeout=ANSWER_S)[1]
            self._consumer.assign(places)
        except KafkaException as error:
            raise BrokerError(f"the chain's topics cannot be read: {explained(error.args[0])}") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more."""
        self._consumer.close()

    def send(self, probe: Probe, value: str, key: str | None = None) -> None:
        """Send a probe to the chain's first topic; ``{probe}`` in its value becomes its word.

        Raises:
            SetupError: the value has no place for the word.
            BrokerError: it is not delivered.
        """
        text = probe.within(value)
        producer, errors = Producer(self._settings), list[object]()
        with entered(Mark(run=probe.run)):
            producer.produce(
                self._chain.first,
                text,
                key=(key or WORD).replace(WORD, probe.word),
                on_delivery=lambda error, _: errors.append(error) if error is not None else None,
            )
        self.sent()
        if producer.flush(ANSWER_S) or errors:
            raise BrokerError(
                f"the probe was not delivered to {self._chain.first}: {errors[0] if errors else 'no answer'}"
            )

    def sent(self) -> None:
        """Note that the probe is on its way, however it was sent."""
        self._sent_at = self._clock()

    def mark(self, probe: Probe) -> str:
        """Return the probe's mark, for whoever sends it over another wire."""
        return self._writer.onward(Mark(run=probe.run), time.time()).decode()

    def seen(self, probe: Probe, seconds: float, done: Callable[[list[Seen]], bool]) -> list[Seen]:
        """Read until everything was seen, or for so many seconds."""
        found: list[Seen] = []
        until = self._clock() + seconds
        while self._clock() < until and not done(found):
            found += self._among(probe, self._consumer.consume(BATCH, POLL_S))
        return found

    def _among(self, probe: Probe, batch: list[RawMessage]) -> Iterator[Seen]:
        for raw in batch:
            if raw.error() is None and (each := self._looked_at(probe, raw)) is not None:
                yield each

    def _looked_at(self, probe: Probe, raw: RawMessage) -> Seen | None:
        try:
            headers = headers_of(raw) or []
        except SystemError:
            headers = []
        reading = self._reader.read(headers, time.time())
        marked = reading.mark is not None and reading.mark.run == probe.run and reading.kind is Kind.SHADOW
        if not marked and probe.word.encode() not in (raw.value() or b""):
            return None
        place = raw.topic() or ""
        hop = reading.mark.hop if marked and reading.mark is not None else 0
        told: dict[str, Any] = dict(headers)
        reason = (told.get(REASON) or b"").decode(errors="replace")
        return Seen(self._places[place], place, marked, hop, self._clock() - self._sent_at, reason)


def _places_of(topic: str) -> Iterator[str]:
    """Give every Kafka topic that a message of this one may be on."""
    yield topic
    yield f"shadow.{topic}"
    for lane in Lane:
        yield from side_topics(topic, lane).values()
        yield retry_topic(topic, lane)
