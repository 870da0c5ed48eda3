from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import chosen, options_of, parser, sides, table, written
from benchmarks.figures import Row, spread
from benchmarks.ground import started
from benchmarks.lanes import SAMPLE, limited, read_samples
from benchmarks.latency import Plan
from benchmarks.options import Options

if TYPE_CHECKING:
    from pathlib import Path


def results() -> dict[str, dict[str, object]]:
    rows = [Row.of("worker / raw loop", spread([0.7, 0.75]), "ratio", 0.8), Row.noise("noise", spread([0.5, 1.0]))]
    return {"a": {"rows": [row.as_json() for row in rows], "details": {"ratio": spread([1.0])}}}


def test_the_table_says_what_was_wanted_and_whether_it_was_reached() -> None:
    _, missed, noise = table(results()).splitlines()
    assert missed.split()[-7:] == ["ratio", ">=", "0.8", "NO", "0.7", "..", "0.75"]
    assert noise.endswith("TOO NOISY to trust")


def test_results_go_to_one_file_or_to_a_folder(tmp_path: Path) -> None:
    written(results(), tmp_path / "all.json")
    written(results(), tmp_path / "folder")
    assert json.loads((tmp_path / "all.json").read_text())["a"]["rows"][0]["reached"] is False
    assert json.loads((tmp_path / "folder" / "a-worker.json").read_text())["details"]["ratio"]["median"] == 1.0


@pytest.mark.parametrize(
    ("text", "letters"), [("a", "a"), ("d,a", "ad"), ("A, c", "ac"), ("a,a", "a"), ("drain,io, A", "aef")]
)
def test_rows_are_chosen_by_letter_or_name(text: str, letters: str) -> None:
    assert chosen(text) == letters


@pytest.mark.parametrize("text", ["", "z", "a;b", "ab"])
def test_an_unknown_row_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        chosen(text)


def test_every_row_is_the_default() -> None:
    assert parser().parse_args([]).rows == "abcdefghijkl"


def test_the_command_line_reaches_the_rows() -> None:
    given = ["--quick", "--sides", "raw,Faust", "--zipf", "1.2", "--scale", "0.5", "--huge"]
    options = options_of(parser().parse_args(given))
    assert (options.quick, options.sides, options.zipf) == (True, ("raw", "faust"), 1.2)
    assert (options.scale, options.huge) == (0.5, True)


def test_a_smoke_is_short_and_a_scale_holds_for_the_rest() -> None:
    assert (Options(quick=True, scale=0.5).messages(100_000, 500), Options(quick=True).turns(5)) == (500, 1)
    assert (Options(scale=0.5).messages(100_000, 500), Options().turns(5)) == (50_000, 5)
    assert Options(quick=True, rounds=3).turns(5) == 3


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="pyrallel"):
        sides("raw,unheard-of")


def test_the_thirds_of_a_run_leave_out_their_first_seconds_and_do_not_overlap() -> None:
    plan = Plan(times=50, third_s=3.0, settle_s=1.0)
    thirds = [plan.schedule(0, third) for third in range(3)]
    assert [len(third) for third in thirds] == [1000, 1000, 1000]
    assert thirds[1][0] == 4_000_000_000
    assert not set(thirds[0]) & set(thirds[1])


def test_a_message_handled_in_two_lives_of_a_lane_counts_the_first_time(tmp_path: Path) -> None:
    (tmp_path / "samples-1").write_bytes(SAMPLE.pack(1, 9) + SAMPLE.pack(2, 7))
    (tmp_path / "samples-2").write_bytes(SAMPLE.pack(1, 5))
    assert read_samples(tmp_path) == {1: 5, 2: 7}


def test_the_plain_limiter_admits_no_more_than_its_rate() -> None:
    began = time.monotonic()
    for _ in itertools.islice(limited(1000.0, burst_s=0.0), 100):
        pass
    assert time.monotonic() - began >= 0.098


def test_a_child_has_ended_when_its_block_is_left() -> None:
    with pytest.raises(ZeroDivisionError), started("http.server", "--bind", "127.0.0.1", "0") as process:
        raise ZeroDivisionError
    assert process.returncode is not None
