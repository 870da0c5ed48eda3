"""(l) The same for Faust: normal p99 under a shadow flood with a stuck shadow agent, beside plain Faust.

The load, the flood and the method are those of (c), with thirds of half a minute. Our lanes are two Faust apps, a
process each. With ``route: topic`` the flood is fifty times the normal load. With ``route: same`` the normal app reads
every shadow message and steps over it, at the few thousand a second that Faust reads at all, so there the flood is five
times. Plain Faust handles both kinds behind one limiter of 1500 a second, three times the normal load.
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
    short = 5.0, 1.5
    # So long that one pause of a fifth of a second, as a virtual machine has them, is less than a hundredth of it.
    full, repeats = (short, 1) if quick else ((30.0, 2.0), 3)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LANES}
    # By turns, so that what changes with time meets both; the first turn, on a cold broker, does not count.
    for turn, (third_s, settle_s) in enumerate([short, *[full] * repeats]):
        for number, (name, (who, times)) in enumerate(LANES.items()):
            plan = Plan(times, third_s, settle_s)
            runs[name].append(run(ground, who, plan, f"agents-{number}-{turn}"))
    levels = {name: summary(each[1:]) for name, each in runs.items()}
    rows = [
        row
        for name, (_, times) in LANES.items()
        for row in lane_rows(f"Faust in lanes, {name}, {times}x", levels[name])
    ]
    plain = [run(ground, PLAIN, Plan(times, 7.0, 1.0, 2), f"agents-plain-{times}") for times in (5, 50)]
    for each in plain:
        flooded = each["phases"]["B"]
        rows.append(Row(f"plain Faust, {each['times']}x: p99", flooded["p99_ms"], "ms"))
        rows.append(Row(f"plain Faust, {each['times']}x: not handled", flooded["missing"], f"of {flooded['count']}"))
    return rows, {
        "method": {"third_s": full[0], "repeats": repeats, "about": __doc__},
        "lanes": levels,
        "plain": plain,
    }


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
