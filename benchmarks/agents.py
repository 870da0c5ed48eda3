"""(l) The same for Faust: normal p99 under a shadow flood with a stuck shadow agent, beside plain Faust.

The load, the flood and the method are those of (c). Our lanes are two Faust apps, a process each. With ``route:
topic`` the flood is fifty times the normal load. With ``route: same`` the normal app reads every shadow message and
steps over it, at the few thousand a second that Faust reads at all, so there the flood is five times. Plain Faust
handles both kinds behind one limiter of 1500 a second, three times the normal load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.figures import Row
from benchmarks.latency import Plan, System, run, summary

if TYPE_CHECKING:
    from benchmarks.ground import Ground

__all__ = ["measured"]

MODULE: Final = "benchmarks.agent_lanes"
WANTED: Final = 1.2
LANES: Final = {
    "route: topic": (System("lanes", MODULE, rule={"route": "topic"}), 50),
    "route: same": (System("lanes", MODULE), 5),
}
PLAIN: Final = System("plain", MODULE, has_lanes=False)


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the rows of the table, and everything measured."""
    third_s, settle_s, repeats = (5.0, 1.5, 1) if quick else (14.0, 2.0, 3)
    levels: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for number, (name, (who, times)) in enumerate(LANES.items()):
        plan = Plan(times, third_s, settle_s)
        levels[name] = summary([run(ground, who, plan, f"agents-{number}-{turn}") for turn in range(repeats)])
        rows += lane_rows(f"Faust in lanes, {name}, {times}x", levels[name])
    plain = [
        run(ground, PLAIN, Plan(times, third_s / 2, settle_s / 2, 2), f"agents-plain-{times}") for times in (5, 50)
    ]
    for each in plain:
        flooded = each["phases"]["B"]
        rows.append(Row(f"plain Faust, {each['times']}x: p99", flooded["p99_ms"], "ms"))
        rows.append(Row(f"plain Faust, {each['times']}x: not handled", flooded["missing"], f"of {flooded['count']}"))
    return rows, {"method": {"third_s": third_s, "repeats": repeats, "about": __doc__}, "lanes": levels, "plain": plain}


def lane_rows(name: str, level: dict[str, Any]) -> list[Row]:
    """Return the rows of one way to separate the lanes."""
    return [
        Row.of(f"{name}: p99 flood / flood-free", level["ratio"], "ratio", WANTED, at_most=True),
        Row.noise(f"{name}: flood-free after / before", level["drift"]),
        Row.of(f"{name}: p99 flood", level["p99_ms"], "ms"),
        Row.of(f"{name}: p99 flood-free", level["free_p99_ms"], "ms"),
        Row.of(f"{name}: shadow sent", level["flood_per_s"], "msg/s"),
        Row(f"{name}: normal not handled", level["missing"], "messages", 0, "at most"),
    ]
