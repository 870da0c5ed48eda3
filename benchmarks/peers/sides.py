"""Who takes part, in which environment, and which work each can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["OURS", "SIDES", "Side", "taking_part"]

OURS: Final = "ours"
THREADS: Final = 32
"""Enough to wait for 32 messages at once; more threads than that cost two cores more than they give."""


@dataclass(frozen=True, slots=True)
class Side:
    """One consumer."""

    name: str
    handlers: frozenset[str]
    """With which handlers it can wait for I/O; its own kind where nothing waits."""
    environment: str | None = ""
    """Whose it runs in: another side's; empty: one of its own; None: ours."""
    python: str | None = None
    """The version that it needs; None: the same as ours."""
    concurrency: dict[str, int] = field(default_factory=dict)
    """Messages at once, by handler, where it has such a setting."""


SYNC, ASYNC, BOTH = frozenset({"sync"}), frozenset({"async"}), frozenset({"sync", "async"})
SIDES: Final = {
    side.name: side
    for side in (
        Side(OURS, BOTH, environment=None, concurrency={"sync": THREADS, "async": 256}),
        Side("raw", SYNC, environment=None),
        Side("aiokafka", ASYNC),
        Side("quixstreams", SYNC),
        # `concurrency` instances of the agent share one buffer; its examples use up to a few hundred.
        Side("faust", ASYNC, concurrency={"async": 256}),
        # Sync handlers go to anyio's threads, of which there are 40.
        Side("faststream", BOTH, concurrency={"sync": 40, "async": 256}),
        # It waits for nothing at the same time, so it has no place where messages wait.
        Side("faststream_batch", frozenset(), environment="faststream"),
        Side("arroyo", SYNC, concurrency={"sync": THREADS}),
        # It asks for 3.12; its limit is `max_in_flight`, 1000 by default, and its number of processes.
        Side("pyrallel", BOTH, python="3.12"),
    )
}


def taking_part(work: str, handler: str, named: tuple[str, ...] = ()) -> list[Side]:
    """Return the sides that can do this work, ours first; ``named`` leaves out all others but ours."""
    return [
        side
        for side in SIDES.values()
        if (work != "sleep" or handler in side.handlers) and (not named or side.name in {*named, OURS})
    ]
