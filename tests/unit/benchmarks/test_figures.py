from __future__ import annotations

import pytest

from benchmarks.figures import (
    Row,
    flood_ratio,
    hot_bound,
    interleaved,
    longest_gap,
    paired,
    phase,
    quantile,
    spread,
    zipf,
)


def test_a_quantile_is_a_value_that_occurred() -> None:
    assert quantile([5.0, 1.0, 3.0, 2.0, 4.0], 0.5) == 3.0
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert quantile([float(n) for n in range(1, 1001)], 0.99) == 990.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (1.0, 2.0), (0.5, 1.0), (0.51, 2.0)])
def test_the_ends_of_a_quantile_are_the_lowest_and_the_highest(share: float, value: float) -> None:
    assert quantile([2.0, 1.0], share) == value


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_beyond_everything_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, share)


def test_a_machine_that_slows_down_evenly_does_not_change_the_ratio() -> None:
    found = paired([100.0, 80.0, 60.0], [81.0, 63.0])
    assert found.ratio.median == pytest.approx(0.9)
    assert found.control.low == pytest.approx(0.75)
    assert found.control.high == pytest.approx(0.8)


def test_every_round_stands_between_two_bases() -> None:
    with pytest.raises(ValueError, match="3 bases"):
        paired([1.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="0 rounds"):
        paired([1.0], [])


def test_a_flood_is_compared_with_what_surrounds_it_and_drift_with_what_was_before() -> None:
    ratio, drift = flood_ratio(8.0, 12.0, 12.0)
    assert ratio == pytest.approx(1.2)
    assert drift == pytest.approx(1.5)


def test_latency_counts_from_the_intended_time_and_a_lost_message_until_the_end() -> None:
    second = 1_000_000_000
    schedule = range(second, 5 * second, second)
    handled = {second: second + 2_000_000, 2 * second: 2 * second + 1_000_000, 3 * second: 3 * second + 4_000_000}
    found = phase(handled, schedule, ended=10 * second)
    assert (found.count, found.missing) == (4, 1)
    assert found.p50_ms == pytest.approx(2.0)
    assert found.max_ms == pytest.approx(6000.0)


def test_messages_of_other_phases_do_not_count() -> None:
    assert phase({1: 2, 10: 1_000_010, 99: 9_000_000}, range(10, 11), ended=100).max_ms == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("throughput", 0.8, "ratio", 0.8), True),
        (Row("throughput", 0.79, "ratio", 0.8), False),
        (Row("latency", 1.2, "ratio", 1.2, "at most"), True),
        (Row("latency", 1.21, "ratio", 1.2, "at most"), False),
        (Row("recorded", 1.0, "ms"), None),
    ],
)
def test_a_target_is_reached_or_missed_or_not_there(row: Row, reached: bool | None) -> None:
    assert row.reached is reached
    assert row.as_json()["reached"] is reached


def test_only_a_control_far_from_one_is_noisy() -> None:
    assert Row.noise("control", spread([0.7, 1.0])).noisy
    assert Row.noise("control", spread([1.0, 1.5])).noisy
    assert not Row.noise("control", spread([0.9, 1.1])).noisy
    assert not Row.of("figure", spread([0.1, 9.0]), "ratio").noisy


def test_each_other_side_is_compared_with_the_bases_around_its_own_turns() -> None:
    ratios, control = interleaved([10.0, 20.0, 30.0, 40.0, 50.0], {"x": [5.0, 7.0], "y": [5.0, 9.0]})
    assert ratios["x"].low == pytest.approx(3.0)
    assert ratios["x"].high == pytest.approx(5.0)
    assert ratios["y"].low == ratios["y"].high == pytest.approx(5.0)
    assert control is not None
    assert control.high == pytest.approx(2.0)


def test_a_side_that_failed_once_has_no_ratio_and_a_base_that_failed_no_control() -> None:
    ratios, control = interleaved([10.0, 0.0, 30.0], {"x": [0.0], "y": [5.0]})
    assert set(ratios) == {"y"}
    assert control is None


def test_turns_stand_between_bases() -> None:
    with pytest.raises(ValueError, match="3 bases"):
        interleaved([1.0, 1.0], {"x": [1.0], "y": [1.0]})
    with pytest.raises(ValueError, match="0 turns"):
        interleaved([1.0], {})


def test_shares_of_keys_fall_as_zipf_says_and_are_one_together() -> None:
    shares = zipf(1000, 1.0)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] == pytest.approx(0.1336, abs=1e-4)
    assert shares[0] / shares[9] == pytest.approx(10.0)
    assert zipf(4, 0.0) == [0.25] * 4


def test_order_by_key_is_bound_by_the_hottest_key() -> None:
    assert hot_bound(0.1336, 0.001) == pytest.approx(7485, rel=1e-3)
    assert hot_bound(1.0, 0.001) == 1000.0


def test_a_gap_counts_from_the_edges_of_its_window() -> None:
    assert longest_gap([1.0, 2.0, 2.5, 9.0], 0.0, 10.0) == 6.5
    assert longest_gap([2.0, 3.0], 0.0, 10.0) == 7.0
    assert longest_gap([], 3.0, 5.0) == 2.0
    assert longest_gap([1.0, 4.0, 8.0], 3.0, 5.0) == 1.0
