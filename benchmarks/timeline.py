"""The picture of row (k): normal's p99 and shadow's calls, second by second, with and without the guard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from benchmarks.ground import say

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = ["drawn_timeline"]

NAME: Final = "guard.svg"
SIDES: Final = {"without": ("without guard", "#b5532c"), "with": ("with guard", "#2a7f62")}
OBJECTIVE: Final = "#444444"


def drawn_timeline(source: Path) -> None:
    """Draw what a file of row (k) says, beside it."""
    document: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    measured, method = document["details"], document["details"]["method"]
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "shadowstream", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for side, (label, colour) in SIDES.items():
        seconds = measured[side]["seconds"]
        at = [each["at_s"] for each in seconds]
        above.plot(at, [each["normal_p99_ms"] for each in seconds], color=colour, label=label)
        below.plot(at, [each["shadow_per_s"] for each in seconds], color=colour, label=label)
    above.set_yscale("log")
    above.axhline(float(method["guard"]["p99"].removesuffix("ms")), color=OBJECTIVE, linestyle=":", label="objective")
    free = method["capacity_per_s"] - method["normal_per_s"]
    below.axhline(free, color=OBJECTIVE, linestyle=":", label="what normal leaves")
    below.set_xlabel("seconds")
    _titled(above, "normal's p99 in each second, ms")
    _titled(below, "shadow's calls a second")
    target = source.with_name(NAME)
    figure.savefig(target, metadata={"Date": None}, facecolor="white")
    say(f"wrote {target}")


def _titled(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="best")
