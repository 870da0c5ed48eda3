"""Who of a group's members gets which partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shadowstream.testing.answers import Place

    Members = Mapping[str, Sequence[str]]
    """Topics by member."""

__all__ = ["ranged", "sticky"]


def ranged(members: Members, topics: Mapping[str, int]) -> dict[str, set[Place]]:
    """Give each member a run of each topic's partitions, the first members one more (Kafka's range assignor)."""
    given: dict[str, set[Place]] = {member: set() for member in members}
    for topic, partitions in topics.items():
        readers = sorted(member for member, names in members.items() if topic in names)
        start = 0
        for at, member in enumerate(readers):
            share = partitions // len(readers) + (at < partitions % len(readers))
            given[member].update((topic, number) for number in range(start, start + share))
            start += share
    return given


def sticky(members: Members, topics: Mapping[str, int], owned: Mapping[str, set[Place]]) -> dict[str, set[Place]]:
    """Let each member keep what it has up to its fair share, and give the rest to whoever has the least."""
    given: dict[str, set[Place]] = {member: set() for member in members}
    free = {(topic, number) for topic, partitions in topics.items() for number in range(partitions)}
    free = {place for place in free if any(place[0] in names for names in members.values())}
    quota, more = divmod(len(free), max(len(members), 1))
    for member in sorted(members, key=lambda each: (-len(owned.get(each, ())), each)):
        wanted = sorted(place for place in owned.get(member, ()) if place in free and place[0] in members[member])
        share = quota + (more > 0)
        more -= len(wanted) >= share > quota
        given[member] = set(wanted[:share])
        free -= given[member]
    for place in sorted(free):
        readers = [member for member, names in members.items() if place[0] in names]
        given[min(readers, key=lambda each: (len(given[each]), each))].add(place)
    return given
