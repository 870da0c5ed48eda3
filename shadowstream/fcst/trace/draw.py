"""The map as text for a terminal, JSON for machines, and SVG for a report."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from shadowstream.fcst.trace.map import Fate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.fcst.trace.map import CoverageMap, Hop

__all__ = ["as_json", "as_svg", "as_text"]

SIGNS: Final[Mapping[Fate, str]] = MappingProxyType(
    {Fate.CARRIED: "+", Fate.DROPPED: "X", Fate.ASIDE: "!", Fate.NEVER: "-"}
)
COLOURS: Final[Mapping[Fate, str]] = MappingProxyType(
    {Fate.CARRIED: "#2e7d32", Fate.DROPPED: "#c62828", Fate.ASIDE: "#ef6c00", Fate.NEVER: "#757575"}
)
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 210, 46, 270, 74, 20
"""Of a box, from box to box, and around all of them; in pixels."""


def as_text(found: CoverageMap) -> str:
    """Draw it for a terminal: a line for each topic, and under it what to do."""
    longest = max(2 * hop.depth + len(hop.topic) for hop in found.hops)
    lines = [f"run {found.run}"]
    for hop in found.hops:
        name = f"{'  ' * hop.depth}{hop.topic}".ljust(longest)
        where = f"  on {hop.place}" if hop.place not in {"", hop.topic} else ""
        lines.append(f"{SIGNS[hop.fate]} {name}  {hop.fate.value:13}{_when(hop):>10}{where}")
        if hop.told:
            lines.append(f"  {'  ' * hop.depth}  {hop.told}")
    return "\n".join(lines)


def as_json(found: CoverageMap) -> str:
    """Return it for machines."""
    return json.dumps({"run": found.run, "whole": found.whole, "hops": [asdict(hop) for hop in found.hops]})


def as_svg(found: CoverageMap) -> str:
    """Draw it for a report: boxes from left to right, an arrow for each hop."""
    rows = {hop.topic: row for row, hop in enumerate(_rows(found))}
    places = {hop.topic: (MARGIN + ACROSS * hop.depth, MARGIN + DOWN * rows[hop.topic]) for hop in found.hops}
    width = max(x for x, _ in places.values()) + WIDTH + MARGIN
    height = max(y for _, y in places.values()) + HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f"<title>{escape(found.run)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        *(_arrow(places, hop) for hop in found.hops if hop.before is not None),
        *(_box(places[hop.topic], hop) for hop in found.hops),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _when(hop: Hop) -> str:
    return "" if hop.after_s is None else f"{hop.after_s:.2f} s"


def _rows(found: CoverageMap) -> list[Hop]:
    """Put what comes from one topic next to each other: each path goes straight on, branches below."""
    ordered: list[Hop] = []

    def follow(before: str | None) -> None:
        for hop in found.hops:
            if hop.before == before:
                ordered.append(hop)
                follow(hop.topic)

    follow(None)
    return ordered


def _box(place: tuple[int, int], hop: Hop) -> str:
    x, y = place
    colour, middle = COLOURS[hop.fate], x + WIDTH // 2
    dash = ' stroke-dasharray="5,4"' if hop.fate is Fate.NEVER else ""
    return (
        f'<g><title>{escape(hop.told or hop.fate.value)}</title><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"'
        f' rx="6" fill="white" stroke="{colour}" stroke-width="2"{dash}/>'
        f'<text x="{middle}" y="{y + 19}" text-anchor="middle" font-size="13">{escape(hop.topic)}</text>'
        f'<text x="{middle}" y="{y + 36}" text-anchor="middle" font-size="11" fill="{colour}">'
        f"{escape(hop.fate.value)} {escape(_when(hop))}</text></g>"
    )


def _arrow(places: Mapping[str, tuple[int, int]], hop: Hop) -> str:
    (from_x, from_y), (to_x, to_y) = places[hop.before or ""], places[hop.topic]
    colour, half = COLOURS[hop.fate], HEIGHT // 2
    bend = (from_x + WIDTH + to_x) // 2
    points = f"{from_x + WIDTH},{from_y + half} {bend},{from_y + half} {bend},{to_y + half} {to_x - 6},{to_y + half}"
    head = f"{to_x},{to_y + half} {to_x - 8},{to_y + half - 4} {to_x - 8},{to_y + half + 4}"
    return f'<polyline points="{points}" fill="none" stroke="{colour}"/><polygon points="{head}" fill="{colour}"/>'
