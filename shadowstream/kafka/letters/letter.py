"""One letter, and whether it may go back: pure rules.

The mark is read on the headers that would be sent, for those that set a letter aside added some and a message has a
bound of them (``test_the_headers_that_were_added_to_a_letter_do_not_count``). Nothing is guessed: a letter in shadow's
box without a mark that can be trusted is never sent as normal, one in normal's box with a mark is never sent at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shadowstream.headers import UNREADABLE, Kind
from shadowstream.kafka.labels import OFFSET, PARTITION, REASON, REPLAYED, TOPIC, own_headers
from shadowstream.kafka.letters.story import Story, story_of
from shadowstream.kafka.offsets import offset_of
from shadowstream.kafka.outlets import headers_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from confluent_kafka import Message as RawMessage

    from shadowstream.headers import MarkReader, Reading
    from shadowstream.kafka.labels import Headers
    from shadowstream.kafka.letters.box import Box

__all__ = ["Fate", "Letter", "judged", "letter_of"]

LOG_APPEND_TIME = 2


class Fate(StrEnum):
    """What becomes of a letter; each one that was meant ends in exactly one."""

    SENT = "sent"
    EXPIRED = "expired"
    """Its run is over: stepped over."""
    QUARANTINED = "quarantined"
    """Its lane cannot be told or trusted: a copy goes to the quarantine."""
    REFUSED = "refused"
    """It cannot go back as it is: it stays where it lies."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a box."""

    raw: RawMessage
    box: Box
    headers: Headers | None
    """As they lie; None when a header key is not UTF-8 and the client gives none of them."""
    onward: Headers
    """What would be sent: those of the message itself, and how often it was sent back."""
    story: Story
    since: int
    """The offset after the letter before it: what lies between is no letter."""

    @property
    def partition(self) -> int:
        """The partition of the box."""
        return self.raw.partition() or 0

    @property
    def offset(self) -> int:
        """The offset in the box."""
        return offset_of(self.raw)

    @property
    def place(self) -> str:
        """Where it lies in the box, ``partition:offset``."""
        return f"{self.partition}:{self.offset}"

    @property
    def timestamp_ms(self) -> int:
        """When the message was first written, in milliseconds since the epoch; 0 when nobody knows."""
        kind, own = self.raw.timestamp()
        told = self.story.timestamp_ms
        return told if told is not None and (kind == LOG_APPEND_TIME or own <= 0) else max(own, 0)

    def mark(self, reader: MarkReader, now: float) -> Reading:
        """Read its mark at wall-clock time ``now`` (unix seconds)."""
        return UNREADABLE if self.headers is None else reader.read(self.onward, now)

    def quarantined(self, reason: str) -> Headers:
        """Return the headers of its copy in the quarantine: all that can be told, and the reason."""
        if self.headers is None:
            told: Headers = [
                (TOPIC, self.box.place.encode()),
                (PARTITION, self.partition.to_bytes(4, "big")),
                (OFFSET, self.offset.to_bytes(8, "big")),
            ]
        else:
            told = [pair for pair in self.headers if pair[0] != REASON]
        return [*told, (REASON, reason.encode())]


def letter_of(raw: RawMessage, box: Box, mark_name: str, since: int) -> Letter:
    """Take a message that was read from a box as a letter; nothing lies between it and offset ``since``."""
    try:
        headers = headers_of(raw) or []
    except SystemError:
        return Letter(raw, box, None, [], Story(), since)
    story = story_of(headers)
    onward = [*own_headers(headers, mark_name), (REPLAYED, str(story.replayed + 1).encode())]
    return Letter(raw, box, headers, onward, story, since)


def judged(letter: Letter, reading: Reading) -> tuple[Fate, str]:
    """Tell what becomes of a letter with this mark, and why where it is not sent."""
    box, story = letter.box, letter.story
    if reading.kind is Kind.QUARANTINE:
        return Fate.QUARANTINED, reading.reason
    if story.lane not in {None, box.lane}:
        return Fate.QUARANTINED, "wrong_lane"
    if (reading.kind is Kind.NORMAL) is not (box.lane is Lane.NORMAL):
        return Fate.QUARANTINED, "unmarked" if box.lane is Lane.SHADOW else "misrouted"
    if reading.kind is Kind.EXPIRED:
        return Fate.EXPIRED, ""
    if story.topic is not None and story.topic not in box.origins:
        return Fate.REFUSED, "foreign_topic"
    return (Fate.REFUSED, "left_out") if story.left_out else (Fate.SENT, "")
