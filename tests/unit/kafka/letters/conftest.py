"""What the tests of letters share: letters as a broker would give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Message as RawMessage

from shadowstream.headers import MarkReader
from shadowstream.kafka.letters.box import Box, BoxKind
from shadowstream.kafka.letters.letter import judged, letter_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.kafka.letters.letter import Fate, Letter

NOW = 1_700_000_000.0


@pytest.fixture
def box() -> Callable[[Lane], Box]:
    def make(lane: Lane) -> Box:
        place = "t.dlq" if lane is Lane.NORMAL else "t.shadow.dlq"
        return Box(BoxKind.DEAD, lane, "t", place, "t", "t.quarantine", "g.replay")

    return make


@pytest.fixture
def letter(box: Callable[[Lane], Box]) -> Callable[..., Letter]:
    def make(lane: Lane, headers, *, offset=5, partition=0, key=b"k", timestamp=(1, 1234)) -> Letter:
        raw = RawMessage(
            topic="t.dlq", partition=partition, offset=offset, key=key, value=b"v", headers=headers, timestamp=timestamp
        )
        return letter_of(raw, box(lane), "x-shadow", offset)

    return make


@pytest.fixture
def fate(letter: Callable[..., Letter]) -> Callable[..., tuple[Fate, str]]:
    """What becomes of a letter with these headers."""

    def of(lane: Lane, headers, *, now=NOW, **mark) -> tuple[Fate, str]:
        made = letter(lane, headers)
        return judged(made, made.mark(MarkReader(**mark), now))

    return of
