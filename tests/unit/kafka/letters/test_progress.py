"""Which letters are answered for, and the note that keeps it in a commit."""

from __future__ import annotations

import random
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.kafka.letters.progress import BETWEEN_NOTES, MOST_CHARACTERS, Progress

STRETCHES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)))


def known(progress: Progress, below: int) -> set[int]:
    return {offset for offset in range(below) if progress.knows(offset)}


@given(st.integers(0, 50), STRETCHES)
def test_whatever_is_passed_is_known_and_nothing_else_and_a_note_keeps_it(first, stretches) -> None:
    progress, expected = Progress(first), set(range(first))
    for start, length in stretches:
        progress.passed(start, start + length)
        expected |= set(range(start, start + length))
    assert known(progress, 400) == expected
    assert progress.first == next(offset for offset in range(400) if offset not in expected)
    kept = Progress.from_note(progress.first, progress.note())
    assert (known(kept, 400), kept.first, kept.note()) == (expected, progress.first, progress.note())


def test_answers_in_order_need_no_note() -> None:
    progress = Progress(7)
    for offset in range(7, 1000):
        progress.passed(offset, offset + 1)
    assert (progress.first, progress.note()) == (1000, "")


@pytest.mark.parametrize(
    "note",
    [
        None,
        "",
        "{}",
        "replay1:",
        "replay1:?",
        "replay1:AAAA",
        "replay2:eJwDAAAAAAE=",
        "replay1:é",
        f"replay1:{b64encode(bytes(40)).decode()}",
    ],
)
def test_metadata_that_is_no_note_of_ours_tells_nothing(note) -> None:
    progress = Progress.from_note(5, note)
    assert known(progress, 100) == set(range(5))


def test_letters_chosen_by_chance_among_10_000_fit_in_a_note() -> None:
    chance, progress = random.Random(1), Progress()
    for offset in range(1, 10_000):
        if chance.random() < 0.5:
            progress.passed(offset, offset + 1)
    assert not progress.full


@pytest.mark.parametrize("gap", [2, 100, 10_000, 1_000_000, 200_000_000])
def test_a_note_says_that_it_is_full_while_it_still_fits(gap) -> None:
    chance, progress, offset = random.Random(1), Progress(), 0
    for _ in range(1000):
        for _ in range(BETWEEN_NOTES):
            offset += 1 + chance.randint(1, gap)
            progress.passed(offset, offset + 1)
        assert len(progress.note()) <= MOST_CHARACTERS
        if progress.full:
            break
    assert progress.full
