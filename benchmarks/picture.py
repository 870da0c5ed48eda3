"""The picture of the committed results: every ratio, one panel for each file, drawn from the JSON alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.ground import say
from benchmarks.timeline import drawn_timeline

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = ["Bar", "Panel", "drawn", "panels"]

NAME: Final = "picture.svg"
GUARD: Final = "k-guard.json"
TITLES: Final = {
    "a: worker": "worker, by the raw client",
    "b: producer": "producer, by the raw client",
    "e: drain": "no-op handler: ours by theirs",
    "f: io": "1 ms of I/O per message: ours by theirs",
    "g: burn": "50 us of CPU per message: ours by theirs",
}
"""The files whose ratios are throughput, where more is better; others have no place in the picture."""
BETTER, WORSE, WANTED = "#2a7f62", "#b5532c", "#444444"


@dataclass(frozen=True, slots=True)
class Bar:
    """One ratio."""

    name: str
    value: float
    low: float
    high: float
    wanted: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """The ratios of one file."""

    title: str
    bars: tuple[Bar, ...]


def drawn(folder: Path) -> int:
    """Draw what the folder's results say; returns the exit code."""
    found = panels([json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))])
    if not found:
        say(f"no ratios in {folder}: run `python -m benchmarks` first")
        return 1
    _draw(found, folder / NAME)
    say(f"wrote {folder / NAME}")
    if (guard := folder / GUARD).exists():
        drawn_timeline(guard)
    return 0


def panels(documents: list[dict[str, Any]]) -> list[Panel]:
    """Return what is to be drawn: ratios of throughput, without the controls."""
    found = [
        Panel(TITLES[document["benchmark"]], tuple(map(_bar, _ratios(document))))
        for document in documents
        if document["benchmark"] in TITLES
    ]
    return [panel for panel in found if panel.bars]


def _ratios(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in document["rows"] if row["unit"] == "ratio" and not row["control"] and row["spread"]]


def _bar(row: dict[str, Any]) -> Bar:
    return Bar(row["name"], row["value"], row["spread"]["low"], row["spread"]["high"], row["wanted"])


def _draw(found: list[Panel], path: Path) -> None:
    import matplotlib as mpl

    # Nothing of this may depend on the day or the machine: a picture of the same figures is the same file.
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "shadowstream", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    heights = [len(panel.bars) for panel in found]
    figure, axes = plt.subplots(
        len(found),
        1,
        figsize=(9, 0.26 * sum(heights) + 0.75 * len(found)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes[:, 0], found, strict=True):
        _panel(axis, panel)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def _panel(axis: Axes, panel: Panel) -> None:
    places = range(len(panel.bars))
    colours = [BETTER if bar.value >= (bar.wanted or 1.0) else WORSE for bar in panel.bars]
    reach = [[bar.value - bar.low for bar in panel.bars], [bar.high - bar.value for bar in panel.bars]]
    axis.set_xscale("log")
    # A logarithmic bar has to begin somewhere; at 1 its direction says who is faster.
    axis.barh(
        places, [bar.value - 1 for bar in panel.bars], left=1, color=colours, xerr=reach, error_kw={"ecolor": WANTED}
    )
    axis.axvline(1, color=WANTED, linewidth=1)
    for place, bar in zip(places, panel.bars, strict=True):
        if bar.wanted is not None:
            axis.plot([bar.wanted] * 2, [place - 0.4, place + 0.4], color=WANTED, linestyle=":")
        axis.annotate(f"{bar.value:.3g}", (max(bar.high, 1.0), place), (4, 0), textcoords="offset points", va="center")
    axis.set_yticks(places, [bar.name for bar in panel.bars])
    axis.invert_yaxis()
    low = min(*(bar.low for bar in panel.bars), 0.5)
    high = max(*(bar.high for bar in panel.bars), 2.0)
    axis.set_xlim(low / 1.2, high * 1.6)
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axis.minorticks_off()
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axis.spines[["top", "right", "left"]].set_visible(False)
