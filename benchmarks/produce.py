"""(b) The producer, in both lanes, against a raw one with the same properties and headers of the same size.

``marked``: `ss.Producer` inside a run, each message stamped with a signed mark, against a raw producer that puts one
static header of the same name and size on each. ``unmarked``: `ss.Producer` in the normal lane against a raw producer
without headers. A rate is the messages by the time from the first produce() until flush() says that all are delivered.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Final

from confluent_kafka import Producer

import shadowstream as ss
from benchmarks.figures import Paired, Row, paired
from benchmarks.ground import CLIENT, child, end_with_parent, produced, say
from shadowstream.headers import MarkWriter

if TYPE_CHECKING:
    from benchmarks.ground import Ground

__all__ = ["measured"]

MARK: Final = ss.Mark(run="bench")
WARM: Final = 1000
"""Messages before the clock starts: connections, the idempotent producer's id, the topic's leader."""


def stamp(settings: ss.Settings) -> tuple[str, str | bytes | None]:
    """Return the header that a marked message carries."""
    keys = [(key.id, key.secret) for key in settings.mark.keys]
    return settings.mark.header, MarkWriter(name=settings.mark.header, keys=keys).onward(MARK, time.time())


def timed(side: str, settings: ss.Settings, topic: str, count: int) -> float:
    """Return the seconds that one side takes."""
    client: Producer | ss.Producer
    if side.startswith("raw"):
        client = Producer(
            {"bootstrap.servers": settings.normal.kafka["bootstrap.servers"], "client.id": "raw", **CLIENT}
        )
    else:
        client = ss.Producer(settings)
    headers = [stamp(settings)] if side == "raw-header" else None
    with ss.entered(MARK if side == "marked" else None):
        produced(client, topic, headers, WARM)
        began = perf_counter()
        produced(client, topic, headers, count)
        return perf_counter() - began


def compared(ground: Ground, base: str, other: str, count: int, rounds: int) -> Paired:
    """Alternate base, other, base, ... base, each in a fresh process on a fresh topic; in messages per second."""
    rates: dict[str, list[float]] = {base: [], other: []}
    sides = [base, other] * rounds + [base]
    for number, side in enumerate(sides):
        topic = ground.topic(f"{other}-{number}")
        seconds = child("benchmarks.produce", side, ground.settings(topic, topic), topic, count)["seconds"]
        if (found := ground.count(topic)) != count + WARM:
            raise RuntimeError(f"topic {topic} holds {found} messages, not {count + WARM}")
        ground.drop(topic)
        rates[side].append(count / seconds)
        say(f"(b) {number + 1}/{len(sides)} {side}: {count / seconds:,.0f} messages/s")
    return paired(rates[base], rates[other])


def measured(ground: Ground, *, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the rows of the table, and everything measured."""
    count, rounds = (40_000, 2) if quick else (300_000, 6)
    marked = compared(ground, "raw-header", "marked", count, rounds)
    unmarked = compared(ground, "raw-bare", "unmarked", count, rounds)
    rows = [
        Row.of("marked / raw with a header", marked.ratio, "ratio", 0.9),
        Row.noise("raw / raw with a header (noise)", marked.control),
        Row.of("raw with a header", marked.base, "msg/s"),
        Row.of("marked", marked.other, "msg/s"),
        Row.of("unmarked / raw without", unmarked.ratio, "ratio"),
        Row.noise("raw / raw without (noise)", unmarked.control),
        Row.of("unmarked", unmarked.other, "msg/s"),
    ]
    method = {"messages": count, "rounds": rounds, "payload_bytes": 200, "properties": CLIENT, "about": __doc__}
    return rows, {"method": method, "marked": asdict(marked), "unmarked": asdict(unmarked)}


def main(side: str, settings: str, topic: str, count: str) -> None:
    """Be one side, in this process; prints what it measured as JSON."""
    end_with_parent()
    seconds = timed(side, ss.load(settings, strict=True), topic, int(count))
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
