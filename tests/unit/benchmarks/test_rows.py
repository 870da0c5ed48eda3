from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.figures import Row, spread
from benchmarks.lanes import SECOND
from benchmarks.memory import high_water_mib
from benchmarks.picture import drawn, panels
from benchmarks.rebalance import PARTITIONS, RATE, Timeline, of_samples
from benchmarks.repeats import FIRST, SECOND_LIFE, TWICE, of_boards

if TYPE_CHECKING:
    from pathlib import Path


def test_what_both_lives_handled_is_a_repeat() -> None:
    killed = bytes([0, FIRST, FIRST, FIRST])
    ended = bytes([SECOND_LIFE, FIRST | SECOND_LIFE, FIRST, FIRST | SECOND_LIFE | TWICE])
    assert of_boards(killed, ended) == {"above": 3, "repeats": 2, "twice_in_one_life": 1, "lost": 0}
    assert of_boards(bytes(2), bytes([SECOND_LIFE, 0]))["lost"] == 1


def test_a_partition_that_stands_still_is_seen_though_the_others_go_on() -> None:
    step, times = SECOND // RATE, Timeline(1.0, 2.0, 3.0)
    samples = {intended: intended + step for intended in range(0, 3 * SECOND, step)}
    stalled = [n for n in range(RATE * 3) if n % PARTITIONS == 1 and 1.2 * RATE <= n < 1.6 * RATE]
    for number in stalled:
        samples[number * step] = int(1.6 * SECOND)
    found = of_samples(samples, 0, times)
    assert found["join"]["partition_ms"] == pytest.approx(400, abs=10)
    # One message in four is missing from the rest, whose own come every 2 ms.
    assert found["join"]["any_ms"] == pytest.approx(4, abs=0.1)
    assert found["leave"]["partition_ms"] == pytest.approx(8, abs=0.1)
    assert found["missing"] == 0
    del samples[0]
    assert of_samples(samples, 0, times)["missing"] == 1


def test_the_most_memory_of_this_process_is_some_of_it() -> None:
    assert 1.0 < high_water_mib() < 100_000.0


def document(benchmark: str) -> dict[str, Any]:
    rows = [
        Row.of("ours / raw", spread([0.7, 0.8, 0.9]), "ratio", 0.8),
        Row.noise("noise", spread([1.0])),
        Row.of("raw", spread([1000.0]), "msg/s"),
    ]
    return {"benchmark": benchmark, "rows": [row.as_json() for row in rows]}


def test_the_picture_shows_ratios_of_throughput_and_no_control() -> None:
    (panel,) = panels([document("e: drain"), document("c: flood")])
    (bar,) = panel.bars
    assert (bar.name, bar.value, bar.low, bar.high, bar.wanted) == ("ours / raw", 0.8, 0.7, 0.9, 0.8)


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a-worker.json").write_text(json.dumps(document("a: worker")))
    assert drawn(tmp_path) == 0
    first = (tmp_path / "picture.svg").read_bytes()
    assert drawn(tmp_path) == 0
    assert (tmp_path / "picture.svg").read_bytes() == first
    assert b"ours / raw" in first


def test_nothing_to_draw_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(tmp_path) == 1
    assert "python -m benchmarks" in capsys.readouterr().err
