"""Both spellings, and the names of environment variables, become addresses in one table.

A ``shadow.`` or ``shadow_`` prefix, or a nested ``shadow: {...}``, may stand at any level and means the same. Only rule
names (commands, topics, sinks) know no ``shadow_`` prefix: a command may well be called ``shadow_report``.

The lane that a problem is blamed on is the lane that its key was spelled for: that decides whether normal starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from shadowstream.config.document import Findings, Node, from_value
from shadowstream.config.fields import SECTIONS, Section, WrongValueError, meant, said
from shadowstream.config.lookup import WHOLE, Address, Given, Layer, Layers
from shadowstream.errors import Problem
from shadowstream.lane import Lane

__all__ = ["ENVIRONMENT_PREFIX", "Spelling", "environment"]

ENVIRONMENT_PREFIX = "SHADOWSTREAM__"
PRESENT = "present"
SSL_IN_PLACE = frozenset({"ssl_key", "ssl_certificate", "ssl_ca"})
"""The properties of librdkafka that really have an underscore."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where the walk stands: the keys so far, and the lane they spelled."""

    spelled: tuple[str, ...] = ()
    lane: Lane = Lane.NORMAL

    def down(self, key: str, *, shadow: bool = False) -> _Spot:
        return replace(self, spelled=(*self.spelled, key), lane=Lane.SHADOW if shadow else self.lane)


class Spelling:
    """Reads documents layer by layer into one table."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._givens: dict[tuple[Layer, Address], Given] = {}
        self._broken: set[Address] = set()

    def table(self) -> Layers:
        """Return what has been read so far."""
        return Layers(self._givens.values(), self._broken)

    def read(self, document: Node, layer: Layer) -> None:
        """Take one document as one layer, or as one more part of it."""
        self._sections(document, _Spot(), layer)

    def _sections(self, node: Node, spot: _Spot, layer: Layer) -> None:
        for key, child in self._entries(node, spot):
            shadow, name = unprefixed(key, SECTIONS)
            below = spot.down(key, shadow=shadow)
            section = SECTIONS.get(name)
            if name == "shadow":
                self._sections(child, spot.down(key, shadow=True), layer)
            elif section is None:
                self._wrong(below, child, "is not a section", meant(name, tuple(SECTIONS)))
            elif below.lane is Lane.SHADOW and not section.lanes:
                self._wrong(below, child, "cannot differ between the lanes", f"Set `{name}` without shadow.")
            elif name == "service":
                self._field(child, below, Address(below.lane, name, "", name), layer)
            elif section.named:
                self._rules(child, below, name, layer)
            else:
                self._rule(child, below, (name, ""), layer)

    def _rules(self, node: Node, spot: _Spot, section: str, layer: Layer) -> None:
        if node.content is None and spot.lane is Lane.NORMAL:
            return
        for key, child in self._entries(node, spot):
            if key == "shadow":
                self._rules(child, spot.down(key, shadow=True), section, layer)
                continue
            name = key.removeprefix("shadow.")
            below = spot.down(key, shadow=name != key)
            if not name or name.startswith("shadow."):
                self._wrong(below, child, "does not name a rule", "Write `shadow.` once, and a name after it.")
            else:
                self._rule(child, below, (section, name), layer)

    def _rule(self, node: Node, spot: _Spot, rule: tuple[str, str], layer: Layer) -> None:
        section, name = rule
        if section == "topics" and (isinstance(node.content, bool) or node.content is None):
            self._topic_switch(node, spot, name, layer)
        elif node.content is None and section not in {"data", "kafka", "worker", "mark"}:
            self._give(Given(Address(spot.lane, section, name, WHOLE), layer, spot.spelled, spot.lane, node, None))
        elif node.content is None and not name and spot.lane is Lane.NORMAL:
            return
        else:
            self._rule_fields(node, spot, rule, layer)

    def _rule_fields(self, node: Node, spot: _Spot, rule: tuple[str, str], layer: Layer) -> None:
        section, name = rule
        plain = 0
        for key, child in self._entries(node, spot):
            shadow, field_name = unprefixed(key, SECTIONS[section].fields)
            below = spot.down(key, shadow=shadow)
            if shadow and key == "shadow":
                self._rule(child, below, rule, layer)
                continue
            plain += not shadow
            if shadow:
                self._present(node, below, rule, layer)
            self._field(child, below, Address(below.lane, section, name, field_name), layer)
        # An empty rule says nothing: else a shadow field put into it would change what normal has.
        if plain or section == "topics":
            self._present(node, spot, rule, layer)

    def _present(self, node: Node, spot: _Spot, rule: tuple[str, str], layer: Layer) -> None:
        if isinstance(node.content, Mapping):
            self._give(Given(Address(spot.lane, *rule, WHOLE), layer, spot.spelled, spot.lane, node, PRESENT))

    def _topic_switch(self, node: Node, spot: _Spot, name: str, layer: Layer) -> None:
        """Take ``topic:`` alone as a topic, and false or null for shadow as one without shadow traffic."""
        if spot.lane is Lane.NORMAL and isinstance(node.content, bool):
            self._wrong(spot, node, f"is {said(node.content, '')} and not a mapping", "Write `enabled: false` in it.")
        elif spot.lane is Lane.NORMAL:
            self._present(Node({}, node.place), spot, ("topics", name), layer)
        else:
            switch = Node(bool(node.content), node.place)
            self._present(Node({}, node.place), spot, ("topics", name), layer)
            self._field(switch, spot, Address(spot.lane, "topics", name, "enabled"), layer)

    def _field(self, node: Node, spot: _Spot, address: Address, layer: Layer) -> None:
        section = SECTIONS[address.section]
        field = section.field(address.field)
        if spot.lane is Lane.SHADOW and not section.lanes:
            self._wrong(spot, node, "cannot differ between the lanes", f"Set `{address.field}` without shadow.")
            return
        if field is None:
            self._wrong(spot, node, "is not a field", meant(address.field, tuple(section.fields)))
            return
        self._duplicates_below(node, spot)
        if address[1::2] == ("topics", "enabled"):
            # One switch for both lanes, however it is spelled: normal must know which marks it may meet.
            address = address._replace(lane=Lane.NORMAL)
        try:
            value = field.value(node.plain())
        except WrongValueError as error:
            self._broken.add(address)
            self._wrong(spot, node, error.wrong, error.cure)
        else:
            self._give(Given(address, layer, spot.spelled, spot.lane, node, value))

    def _give(self, given: Given) -> None:
        other = self._givens.setdefault((given.layer, given.address), given)
        if _same(other.value, given.value):
            return
        key = given.spelled[-1]
        message = (
            f"is {said(given.node.plain(), key)}, but `{' '.join(other.spelled)}` ({other.node.place}) "
            f"says {said(other.node.plain(), key)} for the same thing"
        )
        blame = Lane.SHADOW if Lane.SHADOW in {given.blame, other.blame} else Lane.NORMAL
        self._findings.add(
            blame, Problem(given.node.place, " ".join(given.spelled), message, "Keep one of the two spellings.")
        )

    def _entries(self, node: Node, spot: _Spot) -> Iterable[tuple[str, Node]]:
        if isinstance(node.content, Mapping):
            self._duplicates(node, spot)
            return node.content.items()
        cure = "Write keys and values below it, or leave it out."
        key = spot.spelled[-1] if spot.spelled else ""
        shown = "text" if isinstance(node.content, str) else said(node.plain(), key)
        self._wrong(spot, node, f"is {shown} and not a mapping", cure)
        return ()

    def _duplicates(self, node: Node, spot: _Spot) -> None:
        for key, place in node.duplicates:
            path = (*spot.spelled, key)
            problem = Problem(place, " ".join(path), "is written twice", "Keep one of the two.")
            self._findings.add(spelled_for(path), problem)

    def _duplicates_below(self, node: Node, spot: _Spot) -> None:
        """Look for duplicates inside a value that is taken as it is."""
        self._duplicates(node, spot)
        children = node.content.values() if isinstance(node.content, Mapping) else node.content
        if not isinstance(children, str | int | float | None):
            for child in children:
                self._duplicates_below(child, spot)

    def _wrong(self, spot: _Spot, node: Node, message: str, cure: str) -> None:
        self._findings.add(spot.lane, Problem(node.place, " ".join(spot.spelled), message, cure))


def unprefixed(key: str, known: Iterable[str]) -> tuple[bool, str]:
    """Split off a shadow prefix: whether there was one, and the key without it."""
    if key == "shadow":
        return key not in known, key
    for prefix in ("shadow.", "shadow_"):
        if key.startswith(prefix) and key not in known:
            return True, key.removeprefix(prefix)
    return False, key


def _same(one: object, other: object) -> bool:
    """Compare two values; true and 1 are not the same."""
    return type(one) is type(other) and one == other


def environment(environ: Mapping[str, str], used: Layers, findings: Findings) -> Iterator[Node]:
    """Read each of our environment variables as a small document of its own."""
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        path = _path(variable.removeprefix(ENVIRONMENT_PREFIX).split("__"), used)
        blame = spelled_for(path)
        if not environ[variable].strip():
            cure = "Unset it, or write null to say none."
            findings.add(blame, Problem(variable, " ".join(path), "is set to nothing", cure))
            continue
        node = from_value(environ[variable].strip(), variable, findings, " ".join(path), blame)
        if node is not None:
            for key in reversed(path):
                node = Node({key: node}, variable)
            yield node


def _path(segments: list[str], used: Layers) -> tuple[str, ...]:
    """Spell the segments of a variable's name as the file does: case and ``_`` for ``.`` do not matter."""
    path: list[str] = []
    section: str | None = None
    named = False
    for segment in segments:
        if segment.lower() == "shadow":
            path.append("shadow")
        elif section is None:
            path.append(_known(segment, SECTIONS, ("", "shadow.")))
            section = unprefixed(path[-1], SECTIONS)[1]
        elif section in SECTIONS and SECTIONS[section].named and not named:
            path.append(_known(segment, _names(section, used), ("", "shadow.")))
            named = True
        else:
            path.append(_field_name(segment, SECTIONS.get(section), section))
    return tuple(path)


def _names(section: str, used: Layers) -> tuple[str, ...]:
    both = (Lane.NORMAL, Lane.SHADOW)
    elsewhere = (name for other in SECTIONS if SECTIONS[other].named for name in used.names(other, both))
    return (*used.names(section, both), *elsewhere)


def _field_name(segment: str, section: Section | None, name: str) -> str:
    found = _known(segment, section.fields if section else (), ("", "shadow_"))
    bare = found.removeprefix("shadow_")
    if name != "kafka" or bare in SECTIONS[name].fields or "." in bare or bare in SSL_IN_PLACE:
        return found
    # No shell can export a name with a dot in it, so SASL_PASSWORD must be able to mean sasl.password.
    return found.removesuffix(bare) + bare.replace("_", ".")


def _known(segment: str, known: Iterable[str], prefixes: tuple[str, ...]) -> str:
    spelled = [prefix + name for name in known for prefix in prefixes]
    exact = (name for name in spelled if name.lower() == segment.lower())
    loose = (name for name in spelled if _folded(name) == _folded(segment))
    return next(exact, None) or next(loose, None) or segment.lower()


def _folded(name: str) -> str:
    return name.lower().replace(".", "_").replace("-", "_")


def spelled_for(path: tuple[str, ...]) -> Lane:
    """Return the lane that a path of keys is spelled for."""
    top = [key for key in path if key != "shadow"]
    section = unprefixed(top[0], SECTIONS)[1] if top else ""
    for key in path:
        is_name = section in SECTIONS and SECTIONS[section].named and top[1:2] == [key]
        if key == "shadow" or key.startswith("shadow.") or (key.startswith("shadow_") and not is_name):
            return Lane.SHADOW
    return Lane.NORMAL
