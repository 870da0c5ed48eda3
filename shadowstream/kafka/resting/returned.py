"""A message that came again from a retry topic, as handlers see it, and how its mark is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import TIMESTAMP_CREATE_TIME

from shadowstream.kafka.labels import LABELS, own_headers
from shadowstream.kafka.letters.story import Story, story_of
from shadowstream.kafka.message import Message
from shadowstream.kafka.outlets import headers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Message as RawMessage

    from shadowstream.headers import MarkReader, Reading
    from shadowstream.kafka.engine.tally import Tally
    from shadowstream.kafka.labels import Headers

__all__ = ["Returned", "Returns"]


class Returned(Message):
    """A message in a later round: it is the one that was first read, wherever it rested; ``raw`` knows where."""

    __slots__ = ()

    @property
    def story(self) -> Story:
        """What happened to it, read from its labels."""
        return story_of(headers_of(self.raw) or ())

    @property
    def round(self) -> int:
        """Which round this is, 1 after the first rest."""
        return self.story.rounds

    def topic(self) -> str | None:
        """Return the topic it was first read from; likewise partition and offset."""
        return self.story.topic or self.raw.topic()

    def partition(self) -> int | None:
        """Return the partition it was first read from."""
        told = self.story.partition
        return self.raw.partition() if told is None else told

    def offset(self) -> int | None:
        """Return its first offset."""
        told = self.story.offset
        return self.raw.offset() if told is None else told

    def timestamp(self) -> tuple[int, int]:
        """Return when it was first written."""
        told = self.story.timestamp_ms
        return self.raw.timestamp() if told is None else (TIMESTAMP_CREATE_TIME, told)

    def headers(self) -> Headers | None:
        """Return the headers it was first written with, in their order; None when there are none."""
        return [pair for pair in headers_of(self.raw) or () if pair[0] not in LABELS] or None


class Returns:
    """Reads the marks of messages that came again."""

    def __init__(self, reader: MarkReader) -> None:
        self._reader = reader

    def of(self, messages: Sequence[RawMessage], tally: Tally) -> Iterator[Reading]:
        """Tell what each message is by the headers that it was first written with."""
        for raw in messages:
            yield self._reader.read(own_headers(headers_of(raw) or (), self._reader.name), tally.unix())
