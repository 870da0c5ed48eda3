"""What became of the probe at each hop, and whose hop it is that lost it: pure rules over what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.fcst.trace.chain import Chain
    from shadowstream.fcst.trace.probe import Seen

__all__ = ["CoverageMap", "Fate", "Hop"]


class Fate(StrEnum):
    """What became of the probe at one topic."""

    CARRIED = "carried"
    """It came with its mark."""
    DROPPED = "dropped"
    """It came without its mark: the hop before is deaf, and this is real work now."""
    ASIDE = "set aside"
    """It came with its mark, and ended beside the topic: parked, quarantined, dead-lettered."""
    NEVER = "never reached"


@dataclass(frozen=True, slots=True)
class Hop:
    """One topic of the map."""

    topic: str
    before: str | None
    depth: int
    fate: Fate
    place: str
    """The Kafka topic that it was seen on; empty when it was not seen."""
    hop: int
    """What the mark said of how often it was passed on."""
    after_s: float | None
    """Seconds from the sending to the first sight."""
    told: str
    """What to do about it; empty when it was carried."""


@dataclass(frozen=True, slots=True)
class CoverageMap:
    """The whole chain."""

    run: str
    hops: tuple[Hop, ...]

    @property
    def whole(self) -> bool:
        """Tell whether every hop carried the mark."""
        return all(hop.fate is Fate.CARRIED for hop in self.hops)

    @classmethod
    def drawn(cls, chain: Chain, run: str, seen: Iterable[Seen]) -> CoverageMap:
        """Judge what was seen."""
        by_topic: dict[str, list[Seen]] = {topic: [] for topic in chain.before}
        for each in seen:
            by_topic[each.topic].append(each)
        return cls(run, tuple(_hop(chain, topic, found) for topic, found in by_topic.items()))

    @staticmethod
    def complete(chain: Chain, seen: Iterable[Seen]) -> bool:
        """Tell whether there is nothing left to wait for: each topic has had its first sight."""
        return {each.topic for each in seen} >= set(chain.before)


def _hop(chain: Chain, topic: str, found: list[Seen]) -> Hop:
    source, depth = chain.before[topic], chain.depth(topic)
    if not found:
        why = (
            "nothing is read there" if source is None else f"look at who reads {source}: its log, its limits, its lease"
        )
        return Hop(topic, source, depth, Fate.NEVER, "", 0, None, why)
    first = min(found, key=lambda each: each.after_s)
    # Work that became real weighs most, whatever else was seen.
    lost = next((each for each in found if not each.marked), None)
    if lost is not None:
        whose = f"who reads {source} and writes {topic}" if source is not None else f"who writes {topic}"
        told = f"{whose} does not pass the mark on: from here on it is real work"
        return Hop(topic, source, depth, Fate.DROPPED, lost.place, 0, first.after_s, told)
    straight = {topic, f"shadow.{topic}"}
    aside = next((each for each in found if each.place not in straight), None)
    # At a chain's end nothing but the straight way says that it went on; elsewhere the next topic does.
    went_on = not chain.after(topic) and any(each.place in straight for each in found)
    if aside is not None and not went_on:
        told = f"it ended in {aside.place}" + (f" ({aside.reason})" if aside.reason else "")
        return Hop(topic, source, depth, Fate.ASIDE, aside.place, aside.hop, first.after_s, told)
    return Hop(topic, source, depth, Fate.CARRIED, first.place, first.hop, first.after_s, "")
