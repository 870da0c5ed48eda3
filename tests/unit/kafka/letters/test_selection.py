"""Which letters somebody meant."""

from __future__ import annotations

import pytest

from shadowstream.errors import SetupError
from shadowstream.headers import MarkReader
from shadowstream.kafka.letters.selection import selection_of
from shadowstream.lane import Lane


@pytest.fixture
def takes(letter):
    def ask(texts, headers=(), **place) -> bool:
        made = letter(Lane.SHADOW, list(headers), **place)
        return selection_of(texts).takes(made, made.mark(MarkReader(), 0.0))

    return ask


def test_nothing_said_means_all_of_them(takes) -> None:
    assert takes([])


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("ValueError", True),
        ("builtins.ValueError", True),
        ("Error", False),
        ("uiltins.ValueError", False),
        ("builtins", False),
    ],
)
def test_an_exception_is_meant_by_its_whole_name_or_its_last_parts(takes, wanted, meant) -> None:
    assert takes([wanted], [("kafka_dlt-exception-fqcn", b"builtins.ValueError")]) is meant
    assert takes([wanted], [("kafka_dlt-exception-cause-fqcn", b"builtins.ValueError")]) is meant


def test_a_letter_that_tells_no_exception_is_not_meant_by_one(takes) -> None:
    assert not takes(["ValueError"])


def test_a_key_is_meant_byte_for_byte_whatever_signs_are_in_it(takes) -> None:
    assert takes(["key=a=b"], key=b"a=b")
    assert takes(["key=\udcff"], key=b"\xff"), "as a terminal hands over bytes that are no text"
    assert takes(["key="], key=b"")
    assert not takes(["key="], key=None)


def test_a_run_is_meant_by_the_mark(takes) -> None:
    assert takes(["run=fcst-1"], [("x-shadow", b"1;run=fcst-1")])
    assert not takes(["run=fcst-1"], [("x-shadow", b"1;run=fcst-12")])


@pytest.mark.parametrize(
    ("stretch", "meant"),
    [
        ("5", True),
        ("4", False),
        ("5-", True),
        ("6-", False),
        ("1-5", True),
        ("1-4", False),
        ("0:5", True),
        ("1:5", False),
        ("0:5-9", True),
        ("0:0-", True),
    ],
)
def test_offsets_are_meant_with_both_ends(takes, stretch, meant) -> None:
    assert takes([f"offset={stretch}"], offset=5, partition=0) is meant


def test_two_tests_must_both_hold(takes) -> None:
    assert takes(["key=k", "offset=5"], key=b"k", offset=5)
    assert not takes(["key=k", "offset=6"], key=b"k", offset=5)


@pytest.mark.parametrize(
    "wrong", ["", "=", "offset=", "offset=a", "offset=-5", "offset=9-3", "run=A", "run=../x", "a b", "lane=shadow"]
)
def test_what_says_nothing_is_refused_with_the_cure(wrong) -> None:
    with pytest.raises(SetupError, match=r"--match.*(write|offset)"):
        selection_of([wrong])
