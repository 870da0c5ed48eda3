"""What was given, by which layer, for which address: the table that every value is looked up in.

Both spellings end in the same address, so nothing behind this table knows how a key was spelled. Lookup is lane-major:
each layer is asked for the shadow address before any layer is asked for the normal one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shadowstream.config.document import Node

__all__ = ["WHOLE", "Address", "Given", "Layer", "Layers", "reading"]

WHOLE = ""
"""The field name that stands for the rule itself: there, or null."""


class Layer(StrEnum):
    """Where a value comes from, lowest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    LIVE = "live"


TOP_DOWN = (Layer.LIVE, Layer.ENVIRONMENT, Layer.FILE)


class Address(NamedTuple):
    """One place for a value, whatever its spelling; a section without named rules has the name ''."""

    lane: Lane
    section: str
    name: str
    field: str


@dataclass(frozen=True, slots=True)
class Given:
    """One value that one layer gives to one address."""

    address: Address
    layer: Layer
    spelled: tuple[str, ...]
    """The keys from the top of the document down, as the user wrote them."""
    blame: Lane
    """Whose part of the configuration the key stands in."""
    node: Node = field(repr=False)
    value: object = field(repr=False)
    """The value as the settings hold it: parsed, in the units of the model."""

    @property
    def whole(self) -> bool:
        """Tell whether this speaks of the rule itself and not of one of its fields."""
        return self.address.field == WHOLE

    @property
    def empties(self) -> bool:
        """Tell whether this sets a whole rule to null."""
        return self.whole and self.value is None


def reading(lane: Lane, *, falls_back: bool = True) -> tuple[Lane, ...]:
    """Return the lanes whose keys a lane reads, first choice first."""
    return (Lane.SHADOW, Lane.NORMAL) if lane is Lane.SHADOW and falls_back else (lane,)


class Layers:
    """Everything that all layers gave."""

    __slots__ = ("_broken", "_given", "_spoken")

    def __init__(self, givens: Iterable[Given], broken: Iterable[Address] = ()) -> None:
        self._given: Mapping[tuple[Layer, Address], Given] = {(given.layer, given.address): given for given in givens}
        self._broken = frozenset(broken)
        # Which fields each lane speaks of, in the order first given: section, name, then (lane, field).
        self._spoken: dict[str, dict[str, dict[tuple[Lane, str], None]]] = {}
        for _, (lane, section, name, field_name) in self._given:
            self._spoken.setdefault(section, {}).setdefault(name, {})[lane, field_name] = None

    def find(self, section: str, name: str, field_name: str, lanes: tuple[Lane, ...]) -> Given | None:
        """Return what decides a field: its own value, a null of the whole rule above it, or None when nobody spoke."""
        for lane in lanes:
            for layer in TOP_DOWN:
                own = self._given.get((layer, Address(lane, section, name, field_name)))
                if own is not None:
                    return own
                whole = self._given.get((layer, Address(lane, section, name, WHOLE)))
                if whole is not None and whole.empties:
                    return whole
        return None

    def rule(self, section: str, name: str, lanes: tuple[Lane, ...]) -> Given | None:
        """Return what decides whether a rule exists: the first word on it, None when nobody spoke."""
        for lane in lanes:
            for layer in TOP_DOWN:
                whole = self._given.get((layer, Address(lane, section, name, WHOLE)))
                if whole is not None:
                    return whole
        return None

    def names(self, section: str, lanes: tuple[Lane, ...]) -> tuple[str, ...]:
        """Return the rules of a section that the lanes speak of, sorted."""
        rules = self._spoken.get(section, {})
        return tuple(sorted(name for name, spoken in rules.items() if any(lane in lanes for lane, _ in spoken)))

    def fields(self, section: str, name: str, lanes: tuple[Lane, ...]) -> tuple[str, ...]:
        """Return the fields of a rule that the lanes speak of, in the order first given."""
        spoken = self._spoken.get(section, {}).get(name, {})
        return tuple(dict.fromkeys(each for lane, each in spoken if lane in lanes and each != WHOLE))

    def covered(self) -> Iterator[tuple[Given, Given]]:
        """Give each value that a higher layer gives too, with the one that wins over it."""
        for (layer, address), below in self._given.items():
            for higher in TOP_DOWN[: TOP_DOWN.index(layer)]:
                if (above := self._given.get((higher, address))) is not None and not below.whole:
                    yield below, above
                    break

    def broken(self, address: Address) -> bool:
        """Tell whether some layer gave this address a value that cannot be read."""
        return address in self._broken
