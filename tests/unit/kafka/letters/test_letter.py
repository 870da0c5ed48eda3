"""Whether a letter may go back: no letter changes its lane, and none is guessed."""

from __future__ import annotations

import pytest

from shadowstream.headers import MarkReader
from shadowstream.kafka.letters.letter import Fate, judged, letter_of
from shadowstream.lane import Lane

MARKED = ("x-shadow", b"1;run=fcst-1;exp=1700003600")
STALE = ("x-shadow", b"1;run=fcst-1;exp=1690000000")
FROM_HERE = ("kafka_dlt-original-topic", b"t")


def test_a_letter_that_is_plainly_of_its_lane_goes_back(fate) -> None:
    assert fate(Lane.NORMAL, [FROM_HERE]) == (Fate.SENT, "")
    assert fate(Lane.SHADOW, [MARKED, FROM_HERE]) == (Fate.SENT, "")


def test_a_shadow_letter_whose_run_is_over_is_expired(fate) -> None:
    assert fate(Lane.SHADOW, [STALE]) == (Fate.EXPIRED, "")


def test_a_normal_letter_with_a_mark_of_any_worth_is_never_sent(fate) -> None:
    assert fate(Lane.NORMAL, [MARKED]) == (Fate.QUARANTINED, "misrouted")
    assert fate(Lane.NORMAL, [STALE]) == (Fate.QUARANTINED, "misrouted")
    assert fate(Lane.NORMAL, [("x-shadow", b"junk")]) == (Fate.QUARANTINED, "malformed")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "unmarked"),
        (None, "unmarked"),
        ([("X-Shadow", b"1;run=a")], "unmarked"),
        ([("x-shadow", b"")], "empty"),
        ([("x-shadow", None)], "empty"),
        ([("x-shadow", b"1;run=a"), ("x-shadow", b"1;run=b")], "conflict"),
        ([("x-shadow", b"v9;run=a")], "unknown_version"),
        ([("x-shadow", b"1;run=../a")], "malformed"),
        ([("x-shadow", b"1" * 2000)], "too_long"),
        ([MARKED, *[("h", b"")] * 20_000], "too_many_headers"),
        ([MARKED, ("shadowstream-lane", b"normal")], "wrong_lane"),
    ],
)
def test_a_letter_in_shadows_box_without_a_mark_that_can_be_read_is_never_sent(fate, headers, reason) -> None:
    assert fate(Lane.SHADOW, headers) == (Fate.QUARANTINED, reason)


def test_a_forged_mark_is_quarantined_and_not_merely_expired(fate) -> None:
    assert fate(Lane.SHADOW, [STALE], keys={"k1": b"s"}, signed=True) == (Fate.QUARANTINED, "unsigned")


def test_the_headers_that_were_added_to_a_letter_do_not_count(fate) -> None:
    added = [(f"kafka_dlt-{number}", b"") for number in range(20)]
    own = [("h", b"")] * 126
    assert fate(Lane.SHADOW, [*own, MARKED, *added]) == (Fate.SENT, "")
    assert fate(Lane.NORMAL, [*own, *added]) == (Fate.SENT, "")


def test_a_letter_from_another_topic_stays_where_it_is(fate) -> None:
    assert fate(Lane.NORMAL, [("kafka_dlt-original-topic", b"other")]) == (Fate.REFUSED, "foreign_topic")


def test_a_letter_from_the_route_of_before_goes_to_the_route_of_now(fate) -> None:
    assert fate(Lane.SHADOW, [MARKED, ("kafka_dlt-original-topic", b"shadow.t")]) == (Fate.SENT, "")


def test_a_letter_without_its_value_is_not_sent_as_a_tombstone(fate) -> None:
    assert fate(Lane.NORMAL, [FROM_HERE, ("shadowstream-left-out", b"value")]) == (Fate.REFUSED, "left_out")


class Unreadable:
    """A message whose header key is not UTF-8, as the client gives it."""

    def headers(self):
        raise SystemError

    def partition(self):
        return 3

    def offset(self):
        return 300


@pytest.mark.parametrize("lane", Lane)
def test_a_letter_whose_headers_cannot_be_read_is_quarantined_with_its_place(box, lane) -> None:
    letter = letter_of(Unreadable(), box(lane), "x-shadow", 300)  # type: ignore[arg-type]
    fate = judged(letter, letter.mark(MarkReader(), 0.0))
    assert fate == (Fate.QUARANTINED, "unreadable")
    assert letter.quarantined("unreadable") == [
        ("kafka_dlt-original-topic", box(lane).place.encode()),
        ("kafka_dlt-original-partition", b"\0\0\0\3"),
        ("kafka_dlt-original-offset", b"\0\0\0\0\0\0\1\x2c"),
        ("shadowstream-reason", b"unreadable"),
    ]


def test_what_goes_back_is_the_message_itself_and_how_often_it_went(letter) -> None:
    own = [("trace", b"1"), MARKED, ("trace", b"2"), ("none", None)]
    first = letter(Lane.SHADOW, [*own, FROM_HERE, ("kafka_dlt-exception-fqcn", b"E"), ("shadowstream-attempts", b"3")])
    assert first.onward == [*own, ("shadowstream-replayed", b"1")]
    again = letter(Lane.SHADOW, [*first.onward, FROM_HERE])
    assert again.onward == [*own, ("shadowstream-replayed", b"2")]


def test_a_copy_in_the_quarantine_tells_everything_and_the_newest_reason(letter) -> None:
    headers = [FROM_HERE, ("shadowstream-reason", b"refused"), ("kafka_dlt-original-partition", b"\0\0\0\1")]
    assert letter(Lane.SHADOW, headers).quarantined("unmarked") == [
        FROM_HERE,
        ("kafka_dlt-original-partition", b"\0\0\0\1"),
        ("shadowstream-reason", b"unmarked"),
    ]


def test_the_time_of_the_message_is_its_own_unless_the_box_wrote_another(letter) -> None:
    told = [("kafka_dlt-original-timestamp", (99).to_bytes(8, "big"))]
    assert letter(Lane.NORMAL, told, timestamp=(1, 1234)).timestamp_ms == 1234
    assert letter(Lane.NORMAL, told, timestamp=(2, 1234)).timestamp_ms == 99
    assert letter(Lane.NORMAL, told, timestamp=(0, -1)).timestamp_ms == 99
    assert letter(Lane.NORMAL, [], timestamp=(0, -1)).timestamp_ms == 0
