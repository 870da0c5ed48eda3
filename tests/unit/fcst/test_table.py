"""What a run looks like on a terminal, and where there is none."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from shadowstream.fcst.demo.table import LaneView, Screen, View
from shadowstream.fcst.verdict import Finding
from shadowstream.lane import Lane

VIEW = View(
    "stuck",
    31.4,
    (
        LaneView(
            Lane.NORMAL,
            sent_per_s=40.0,
            done_per_s=39.6,
            p50_s=0.045,
            p99_s=0.09,
            backlog={"uservoucher": 2, "taskv2": 1, "ss_business": 0},
            breakers={"uservoucher": "closed", "taskv2": "closed", "ss_business": "closed"},
        ),
        LaneView(
            Lane.SHADOW,
            sent_per_s=400.0,
            done_per_s=0.0,
            p50_s=17.5,
            p99_s=None,
            backlog={"uservoucher": 90, "taskv2": 4400, "ss_business": 0},
            breakers={"uservoucher": "half-open", "taskv2": "open", "ss_business": "none"},
        ),
    ),
)


def shown(*, terminal: bool, views: int = 1) -> str:
    output = StringIO()
    screen = Screen(Console(file=output, force_terminal=terminal, width=80, highlight=False, color_system=None))
    with screen.watching():
        for _ in range(views):
            screen.show(VIEW)
    return output.getvalue()


def test_without_a_terminal_a_run_is_a_plain_line_now_and_then() -> None:
    lines = shown(terminal=False, views=5).splitlines()

    assert len(lines) == 1
    assert "stuck | normal 40/s done 40/s p50 45 ms p99 90 ms backlog 2+1+0 breakers closed,closed,closed" in lines[0]
    assert "shadow 400/s done 0/s p50 17500 ms p99 - backlog 90+4400+0 breakers half-open,open,none" in lines[0]


def test_on_a_terminal_the_table_fits_eighty_columns() -> None:
    text = shown(terminal=True)

    assert "4400" in text
    assert "half-open" in text
    assert all(service in text for service in ("uservoucher", "taskv2", "ss_business"))
    assert "..." not in text
    assert "…" not in text


def test_the_verdict_is_a_line_for_each_law() -> None:
    output = StringIO()
    screen = Screen(Console(file=output, width=80, highlight=False))

    screen.verdict([Finding("one", ok=True, text="[fine] " + "x" * 100), Finding("two", ok=False, text="not fine")])

    lines = output.getvalue().splitlines()
    assert lines[0].split() == ["ok", "one:", "[fine]", "x" * 100]
    assert lines[1].split() == ["BROKEN", "two:", "not", "fine"]
