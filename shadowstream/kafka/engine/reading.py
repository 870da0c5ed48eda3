"""Tells what each message of a piece is, a hundred at a time.

Traps:

* Headers come through ``map``, not by ``raw.headers()``: a warm call of that kind is not checked by the interpreter,
  and hands out the broken list of a message whose header key is not UTF-8
  (``test_a_header_key_that_is_not_utf8_is_quarantined_and_the_log_goes_on``).
* A mark is read when its message's turn has come
  (``test_a_mark_is_read_when_its_turn_has_come_and_not_with_the_batch``).
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import Message as RawMessage

from shadowstream.headers import NEAR_MISS, NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shadowstream.kafka.engine.binding import Binding
    from shadowstream.kafka.engine.tally import Tally
    from shadowstream.kafka.labels import Headers

__all__ = ["Readings"]

TOGETHER: Final = 100
STEPPED_OVER: Final = Reading(Kind.SHADOW, None, "")


class Readings:
    """Reads the marks of one topic's messages in one lane."""

    def __init__(self, binding: Binding, reader: MarkReader) -> None:
        self._reader = reader
        self._normal = binding.lane is Lane.NORMAL
        self._skims = self._normal and binding.shared

    def of(self, messages: Sequence[RawMessage], tally: Tally) -> Iterator[Reading]:
        """Tell what each message is; a few are looked at together, so that nobody waits for what comes behind him."""
        shares = (messages[start : start + TOGETHER] for start in range(0, len(messages), TOGETHER))
        return chain.from_iterable(self._read_together(share, tally) for share in shares)

    def _read_together(self, messages: Sequence[RawMessage], tally: Tally) -> Iterable[Reading]:
        """Tell what these messages are; one look is enough where none has a mark, the usual case."""
        asked = cast("Iterator[Headers | None]", map(RawMessage.headers, messages))
        headers: list[Headers | None] = []
        broken: set[int] = set()
        while len(headers) < len(messages):
            try:
                headers.extend(asked)
            except SystemError:
                # What came before the broken one is in the list already, and the client goes on behind it.
                broken.add(len(headers))
                headers.append(None)
        if not broken and self._reader.unmarked(headers):
            return repeat(NORMAL, len(headers))
        return self._read_each(headers, broken, tally)

    def _read_each(self, headers: list[Headers | None], broken: set[int], tally: Tally) -> Iterator[Reading]:
        for number, each in enumerate(headers):
            if self._skims and self._reader.marked(each):
                # Shadow's to judge (`fate`): what the mark is worth changes nothing here.
                yield STEPPED_OVER
                continue
            reading = UNREADABLE if number in broken else self._reader.read(each, tally.unix())
            if reading is NEAR_MISS and self._normal:
                tally.reasons[reading.reason] += 1
            yield reading
