"""The observer's books, and exact quantiles."""

from __future__ import annotations

import pytest

from shadowstream.fcst.observe import Books, quantile
from shadowstream.lane import Lane


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.5, 5.0),
        ([5.0], 0.99, 5.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([4.0, 3.0, 2.0, 1.0], 0.75, 3.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.99) is None


def books(**due: float) -> Books:
    return Books(
        {
            Lane.NORMAL: {name: at for name, at in due.items() if name[0] == "n"},
            Lane.SHADOW: {name: at for name, at in due.items() if name[0] == "s"},
        }
    )


def test_a_message_takes_as_long_as_from_its_intended_send_to_the_end_of_the_chain() -> None:
    kept = books(n1=10.0, n2=11.0)

    kept.note("voucher.claimed", "n1", Lane.NORMAL, 10.1)
    kept.note("voucher.settled", "n1", Lane.NORMAL, 10.5)
    kept.note("voucher.cancelled", "n2", Lane.NORMAL, 11.25)

    assert kept.lanes[Lane.NORMAL].latencies() == [0.5, 0.25]
    assert kept.lanes[Lane.NORMAL].latencies(since=11.0) == [0.25]
    assert kept.lanes[Lane.NORMAL].latencies(until=11.0) == [0.5]
    assert kept.lanes[Lane.NORMAL].recent(11.0) == [0.25]


def test_a_voucher_that_ends_twice_is_a_duplicate_and_keeps_its_first_time() -> None:
    kept = books(n1=10.0)

    kept.note("voucher.settled", "n1", Lane.NORMAL, 10.5)
    kept.note("voucher.settled", "n1", Lane.NORMAL, 12.0)

    assert kept.lanes[Lane.NORMAL].again == 1
    assert kept.lanes[Lane.NORMAL].latencies() == [0.5]


def test_each_topic_is_counted_by_lane() -> None:
    kept = books(n1=0.0, s1=0.0)

    kept.note("voucher.used", "n1", Lane.NORMAL, 1.0)
    kept.note("voucher.used", "s1", Lane.SHADOW, 1.0)
    kept.note("voucher.used", "s2", Lane.SHADOW, 1.0)

    assert kept.produced == {("voucher.used", Lane.NORMAL): 1, ("voucher.used", Lane.SHADOW): 2}


def test_a_message_met_in_the_other_lane_has_strayed() -> None:
    kept = books(n1=0.0, s1=0.0)

    kept.note("voucher.used", "s1", Lane.NORMAL, 1.0)
    kept.note("voucher.settled", "n1", Lane.SHADOW, 1.0)

    assert kept.strayed == {"s1", "n1"}


@pytest.mark.parametrize("side", ["quarantine", "dlq", "shadow.dlq", "shadow.parked"])
def test_a_copy_on_a_side_topic_is_not_the_end_of_the_chain(side: str) -> None:
    kept = books(s1=0.0)

    kept.note(f"voucher.used.{side}", "s1", Lane.SHADOW, 1.0)

    assert kept.lanes[Lane.SHADOW].aside == {"s1": f"voucher.used.{side}"}
    assert kept.lanes[Lane.SHADOW].arrived == {}
