"""What a commit's metadata says about the messages above it."""

from __future__ import annotations

import zlib
from base64 import b85encode
from random import Random

import pytest
from confluent_kafka import Message as RawMessage
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.events import Outcome
from shadowstream.kafka.offsets import NOTHING_DONE, Done, Due, Piece, Window
from shadowstream.kafka.offsets.done import MAX_METADATA, joined

RANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=30)


def made(base: int, steps: list[tuple[int, int]], more: int = 5) -> Done:
    """Lay ranges of unfinished offsets behind each other: how many are finished before each, and its length."""
    at, ranges = base, []
    for finished, unfinished in steps:
        first = at + finished
        at = first + unfinished
        ranges.append((first, at))
    return Done(base, at + more, joined(ranges))


def messages(*offsets: int) -> list[RawMessage]:
    return [RawMessage(topic="t", partition=0, offset=offset, value=b"12345") for offset in offsets]


def opened(window: Window, *offsets: int) -> Piece:
    piece = Piece(messages(*offsets))
    window.opened(piece)
    return piece


@given(base=st.integers(0, 2**62), steps=RANGES)
def test_what_is_written_is_read_again(base: int, steps: list[tuple[int, int]]) -> None:
    done = made(base, steps)
    text, said = done.written()
    assert text.isascii()
    assert Done.read(text, base) == said == done


def test_nothing_is_written_where_nothing_is_finished_above_the_commit() -> None:
    assert Done(7, 9, ((7, 9),)).written() == ("", NOTHING_DONE)
    assert NOTHING_DONE.written() == ("", NOTHING_DONE)


def test_what_does_not_fit_says_less_and_never_something_wrong() -> None:
    chance = Random(7)
    steps = [(chance.randint(1, 200), chance.randint(1, 200)) for _ in range(20_000)]
    done = made(1000, steps)
    text, said = done.written()
    assert 0.9 * MAX_METADATA < len(text) <= MAX_METADATA
    assert said.unfinished == done.unfinished[: len(said.unfinished)]
    assert len(said.unfinished) > 500
    assert all(offset in done for offset in range(said.base, said.end) if offset in said)
    assert Done.read(text, 1000) == said


def test_a_window_of_ten_thousand_messages_fits_whole() -> None:
    chance = Random(7)
    offsets = [offset for offset in range(10_000) if offset == 0 or chance.random() < 0.5]
    done = Done(0, 10_000, joined((offset, offset + 1) for offset in offsets))
    text, said = done.written()
    assert said == done
    assert len(text) <= MAX_METADATA


@given(st.one_of(st.none(), st.text(max_size=200), st.text(max_size=60).map(lambda text: f"ss1;{text}")))
def test_metadata_that_is_not_ours_says_nothing_and_never_raises(metadata: str | None) -> None:
    assert Done.read(metadata, 5) is NOTHING_DONE


def forged(text: str) -> str:
    return f"ss1;{zlib.crc32(text.encode()):08x};{text}"


def packed(plain: bytes) -> str:
    return b85encode(zlib.compress(plain)).decode()


@pytest.mark.parametrize(
    "metadata",
    [
        forged(f"5;9;{packed(bytes([0, 1, 1]))}"),
        forged(f"5;9;{packed(bytes([0, 200]))}"),
        forged(f"5;6;{packed(bytes([0, 9]))}"),
        forged(f"-5;6;{packed(bytes([0, 1]))}"),
        forged(f"5;9;{packed(bytes(1 << 21))}"),
        forged("5;9;not base 85 \N{SNOWMAN}"),
        forged("5;9"),
        forged("five;9;"),
        forged(f"4;9;{packed(bytes([0, 1]))}"),
    ],
    ids=["odd", "cut", "beyond", "negative", "bomb", "garbage", "short", "words", "another base"],
)
def test_a_forged_list_says_nothing(metadata: str) -> None:
    assert Done.read(metadata, 5) is NOTHING_DONE


@given(st.data())
def test_one_changed_character_says_nothing(data: st.DataObject) -> None:
    text, _ = made(5, [(0, 3), (4, 2), (1, 1)]).written()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=126, min_codepoint=33).filter(lambda each: each != text[at]))
    assert Done.read(text[:at] + other + text[at + 1 :], 5) is NOTHING_DONE


@given(base=st.integers(0, 1000), steps=RANGES)
def test_an_offset_is_finished_unless_it_is_in_a_range_of_unfinished_ones(
    base: int, steps: list[tuple[int, int]]
) -> None:
    done = made(base, steps)
    unfinished = {offset for first, after in done.unfinished for offset in range(first, after)}
    for offset in range(base - 2, done.end + 2):
        assert (offset in done) == (base <= offset < done.end and offset not in unfinished)
    assert done.count() == done.end - base - len(unfinished)


def test_a_commit_says_what_is_finished_above_it_and_the_next_assignment_leaves_that_out() -> None:
    window = Window()
    opened(window, 1, 4)
    fast = opened(window, 2, 3, 9)
    fast.done = 2
    due = window.due()
    assert due is not None
    assert (due.offset, due.finished) == (1, 2)
    again = Window.after(due.offset, due.metadata)
    assert [each.offset() for each in again.fresh(messages(1, 2, 3, 4))] == [1, 4]
    assert [each.offset() for each in again.fresh(messages(9, 10))] == [9, 10]
    assert again.position == 11


def test_what_was_finished_before_is_still_said_by_the_next_commit() -> None:
    window = Window.after(10, made(10, [(0, 1), (5, 1), (5, 1)], more=3).written()[0])
    assert window.due() is None, "the same as committed already"
    fresh = window.fresh(messages(10, 11, 12))
    assert [each.offset() for each in fresh] == [10]
    piece = opened(window, *[each.offset() or 0 for each in fresh])
    piece.done = 1
    due = window.due()
    assert due is not None
    assert due.offset == 13
    said = Done.read(due.metadata, 13)
    assert [offset for offset in range(13, 26) if offset not in said] == [16, 22]


def test_a_commit_is_due_again_when_only_what_is_finished_above_it_has_changed() -> None:
    window = Window()
    opened(window, 1)
    fast = opened(window, 2, 3)
    first = window.due()
    assert first == Due(1, "", 0)
    window.asked = first
    fast.done = 1
    second = window.due()
    assert second is not None
    assert (second.offset, second.finished) == (1, 1)
    assert second.metadata
    window.asked, window.confirmed = second, second.finished
    assert window.repeated_by_a_crash() == 0
    fast.done = 2
    assert window.repeated_by_a_crash() == 1


def test_an_output_on_its_way_keeps_its_message_out_of_what_is_finished() -> None:
    window = Window()
    opened(window, 1)
    fast = opened(window, 2, 3)
    token = fast.hold_current()
    assert token is not None
    fast.done = 2
    due = window.due()
    assert due is not None
    assert 2 not in Done.read(due.metadata, 1)
    assert 3 in Done.read(due.metadata, 1)


def test_all_messages_of_a_batch_wait_for_its_outputs() -> None:
    window = Window()
    piece = opened(window, 1, 2, 3)
    piece.give(piece.messages[:2])
    held = piece.hold_current()
    assert held is not None
    piece.done = 3
    assert window.due() == Due(1, Done(1, 4, ((1, 3),)).written()[0], 1)
    piece.ended(1, Outcome.HANDLED)
    piece.release(held[0])
    assert piece.answers() == {Outcome.HANDLED: 2}
