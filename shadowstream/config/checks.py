"""What must hold between keys: nothing missing, no two lanes in one place, no sink that shadow would share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from shadowstream.config.fields import said
from shadowstream.config.lookup import Address, Given, Layers, reading
from shadowstream.config.model import LaneSettings, Trust
from shadowstream.config.resolve import exists, resolved
from shadowstream.errors import Problem
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from shadowstream.config.document import Findings, Node

__all__ = ["Checks", "warnings"]

TOPIC = re.compile(r"[A-Za-z0-9._-]{1,235}")
"""Kafka's own rule, less room for ``.shadow.parked`` after the name."""
PLACES = frozenset({"url", "uri", "dsn", "host", "hosts", "address", "endpoint", "path"})
"""Fields of a sink that say where it is: a shadow sink without the one that normal has leads nowhere."""
LAST_PORT = 65535
LANES = (Lane.NORMAL, Lane.SHADOW)


class Checks:
    """The checks of one configuration; each adds to the findings."""

    def __init__(self, layers: Layers, root: Node, findings: Findings) -> None:
        self._layers = layers
        self._root = root
        self._findings = findings

    def run(self) -> None:
        """Run them all."""
        self._required()
        self._kafka()
        self._transactions()
        self._sinks()
        self._topics()
        self._key_rules()
        self._caps()
        self._fleet()
        self._ports()

    def _required(self) -> None:
        for section, field_name, example in (
            ("service", "service", "service: uservoucher"),
            ("kafka", "bootstrap.servers", "kafka: {bootstrap.servers: localhost:9092}"),
            ("kafka", "group.id", "kafka: {group.id: uservoucher}"),
        ):
            address = Address(Lane.NORMAL, section, "", field_name)
            if self._layers.find(section, "", field_name, (Lane.NORMAL,)) or self._layers.broken(address):
                continue
            near = get_close_matches(field_name, self._layers.fields(section, "", (Lane.NORMAL,)), n=1, cutoff=0.7)
            cure = f"Did you mean it by `{near[0]}`?" if near else f"Write `{example}`."
            key = section if section == field_name else f"{section} {field_name}"
            self._add(Lane.NORMAL, self._place(section), key, "is missing", cure)

    def _kafka(self) -> None:
        for field_name in ("group.id", "transactional.id"):
            normal = self._layers.find("kafka", "", field_name, (Lane.NORMAL,))
            shadow = self._layers.find("kafka", "", field_name, (Lane.SHADOW,))
            if normal is None or normal.value is None:
                continue
            if shadow is not None and shadow.value == normal.value:
                message = f"is {said(shadow.value, field_name)}, the same as the normal lane's"
                self._wrong(Lane.SHADOW, shadow, message, f"Write another one, such as {normal.value}.shadow.")
            elif shadow is None and field_name == "transactional.id" and not self._broken("kafka", "", field_name):
                cure = f"Add `shadow.kafka: {{transactional.id: {normal.value}.shadow}}`."
                message = "has no shadow value, and a transaction's place never falls back"
                self._wrong(Lane.SHADOW, normal, message, cure)

    def _transactions(self) -> None:
        """Whoever reads what others have not committed handles messages that never were."""
        for lane in LANES:
            names = self._layers.names("topics", LANES)
            exact = [each for each in names if resolved(self._layers, "topics", each, "transactional", lane).value]
            isolation = self._layers.find("kafka", "", "isolation.level", reading(lane))
            if not exact or isolation is None or isolation.value in {None, "read_committed"}:
                continue
            message = f"is {said(isolation.value, '')}, but topic {exact[0]} is transactional in the {lane} lane"
            cure = f"Remove it, or write `transactional: false` for {', '.join(exact)}."
            self._wrong(lane, isolation, message, cure)
            return

    def _sinks(self) -> None:
        for name in self._layers.names("data", (Lane.NORMAL,)):
            normal = self._layers.rule("data", name, (Lane.NORMAL,))
            if normal is None:
                continue
            shadow = self._layers.rule("data", name, (Lane.SHADOW,))
            theirs = self._sink(name, Lane.SHADOW)
            cure = f"Add a whole block `shadow.{name}: {{...}}` under `data:`."
            if shadow is None or not theirs:
                self._wrong(Lane.SHADOW, shadow or normal, "has no shadow sink, and sinks never fall back", cure)
                continue
            ours = self._sink(name, Lane.NORMAL)
            for missing in sorted(PLACES & ours.keys() - theirs.keys()):
                message = f"has no `{missing}`, and a sink inherits nothing"
                self._wrong(Lane.SHADOW, shadow, message, f"Write `{missing}` in the shadow block too.")
            elsewhere = [field for field, value in theirs.items() if field not in ours or ours[field] != value]
            if not elsewhere:
                message = "says nothing that the normal sink does not, so shadow data would land among real data"
                self._wrong(Lane.SHADOW, shadow, message, "Give it another place, or a prefix of its own.")

    def _sink(self, name: str, lane: Lane) -> dict[str, object]:
        return {
            each: resolved(self._layers, "data", name, each, lane).value
            for each in self._layers.fields("data", name, (lane,))
        }

    def _topics(self) -> None:
        names = self._layers.names("topics", LANES)
        normal = tuple(name for name in names if self._layers.rule("topics", name, (Lane.NORMAL,)))
        for name in names:
            lane = Lane.NORMAL if name in normal else Lane.SHADOW
            given = self._layers.rule("topics", name, (lane,))
            if given is None:
                continue
            if not TOPIC.fullmatch(name) or name in {".", ".."}:
                cure = "Use 1 to 235 letters, digits and ._-, as Kafka does."
                self._wrong(lane, given, "is not the name of a topic", cure)
            if lane is Lane.SHADOW:
                cure = f"Add `{name}: {{}}` under `topics:`, or correct the name."
                near = get_close_matches(name, normal, n=1)
                cure = f"Did you mean `{near[0]}`?" if near else cure
                self._wrong(lane, given, "is a topic that the normal lane does not have", cure)
            self._route(name)
            self._own_retries(name, names)

    def _route(self, name: str) -> None:
        """Both lanes must agree on it: normal steps over marks only where the shadow cursor reads them."""
        shadow = self._layers.find("topics", name, "route", (Lane.SHADOW,))
        route = resolved(self._layers, "topics", name, "route", Lane.NORMAL).value
        if shadow is not None and not shadow.whole and shadow.value != route:
            cure = f"Write `route: {shadow.value}` without shadow: it speaks of shadow messages anyway."
            self._wrong(Lane.SHADOW, shadow, f"is {said(shadow.value, '')}, and `{route}` without shadow", cure)

    def _own_retries(self, name: str, names: tuple[str, ...]) -> None:
        """A retry topic is read by the worker itself, in one lane; nobody else may handle what is in it."""
        for lane, place in ((Lane.NORMAL, f"{name}.retry"), (Lane.SHADOW, f"{name}.shadow.retry")):
            rounds = resolved(self._layers, "topics", name, "rounds", lane)
            given = self._layers.rule("topics", place, (Lane.NORMAL,))
            if place in names and rounds.value and given is not None:
                cure = f"Remove it, or write `rounds: 0` for {name}."
                self._wrong(Lane.NORMAL, given, f"is where {name} keeps its messages between two rounds", cure)

    def _key_rules(self) -> None:
        section = "multi_key_rate_limit_v2"
        for lane in LANES:
            for name in self._layers.names(section, reading(lane)):
                given = exists(self._layers, section, name, lane)
                if given is None or given.empties or given.address.lane is not lane:
                    continue
                for field_name, example in (("keys", "keys: [user_id]"), ("hard", "hard: 5/s")):
                    found = resolved(self._layers, section, name, field_name, lane)
                    missing = found.given is None or found.given.whole
                    if missing and not any(self._broken(section, name, field_name, each) for each in reading(lane)):
                        self._wrong(lane, given, f"has no `{field_name}`", f"Write `{example}`.")

    def _caps(self) -> None:
        for name in self._layers.names("resilience", (Lane.NORMAL,)):
            cap = self._layers.find("resilience", name, "max_concurrent", (Lane.NORMAL,))
            if cap is not None and cap.value == 0:
                cure = f"Write it under `shadow.{name}` alone, to let no shadow call through."
                self._wrong(Lane.NORMAL, cap, "is 0, so that no real call is ever made", cure)

    def _fleet(self) -> None:
        for section in ("rate_limit", "default_rate_limit", "resilience"):
            named = section != "default_rate_limit"
            for name in self._layers.names(section, LANES) if named else ("",):
                for lane in LANES:
                    for each in ("fleet", "by_partitions"):
                        given = self._layers.find(section, name, each, (lane,))
                        if given is not None and not given.whole and given.value:
                            self._shared(section, name, given)
        live = self._layers.find("fleet", "", "live", (Lane.NORMAL,))
        if live is not None and live.value and not resolved(self._layers, "fleet", "", "lease", Lane.NORMAL).value:
            told = "is true, but shadow runs without a lease, so also where nobody knows what is laid over its limits"
            self._wrong(Lane.SHADOW, live, told, "Add `lease: true` beside it.")

    def _shared(self, section: str, name: str, given: Given) -> None:
        """A limit of many processes is shadow's alone: normal asks nobody, so nobody can hold it up."""
        field = given.address.field
        if given.address.lane is Lane.NORMAL:
            own = f"shadow.{name}: {{{field}: true}}" if name else f"shadow_{field}: true"
            self._wrong(Lane.NORMAL, given, "is true, but normal shares nothing", f"Write `{own}`.")
        elif field == "by_partitions":
            if resolved(self._layers, section, name, "fleet", Lane.SHADOW).value:
                self._wrong(Lane.SHADOW, given, "is true, and so is `fleet`", "Remove one of the two.")
        elif self._layers.find("fleet", "", "url", (Lane.NORMAL,)) is None:
            cure = "Add `fleet: {url: redis://localhost:6379/0}`."
            self._wrong(Lane.SHADOW, given, "is true, but there is no place to share through", cure)
        elif section == "resilience":
            return
        elif resolved(self._layers, section, name, "warm_up", Lane.SHADOW).value is not None:
            cure = "Remove one of the two, or write `warm_up: null` for shadow."
            self._wrong(Lane.SHADOW, given, "is true, and what is shared does not warm up", cure)

    def _ports(self) -> None:
        normal = self._layers.find("worker", "", "metrics_port", (Lane.NORMAL,))
        shadow = self._layers.find("worker", "", "metrics_port", (Lane.SHADOW,))
        if normal is None or normal.value is None or (shadow is not None and shadow.value is None):
            return
        if shadow is not None and shadow.value == normal.value:
            message = f"is {said(shadow.value, '')}, the same as the normal lane's"
            self._wrong(Lane.SHADOW, shadow, message, "Write another port, or leave it out for the next one.")
        if shadow is None and normal.value == LAST_PORT and not self._broken("worker", "", "metrics_port"):
            message = "is the last port, so the shadow lane has none after it"
            self._wrong(Lane.SHADOW, normal, message, "Add `shadow.worker: {metrics_port: 9101}`.")

    def _broken(self, section: str, name: str, field_name: str, lane: Lane = Lane.SHADOW) -> bool:
        return self._layers.broken(Address(lane, section, name, field_name))

    def _place(self, section: str) -> str:
        sections = self._root.content
        node = sections.get(section) if isinstance(sections, Mapping) else None
        return node.place if node else self._root.place

    def _wrong(self, blame: Lane, given: Given, message: str, cure: str) -> None:
        self._add(blame, given.node.place, " ".join(given.spelled), message, cure)

    def _add(self, blame: Lane, place: str, key: str, message: str, cure: str) -> None:
        self._findings.add(blame, Problem(place, key, message, cure))


def warnings(layers: Layers, lane: LaneSettings, trust: Trust) -> Iterator[str]:
    """Say what is allowed and probably not meant, for one lane."""
    yield from _without_effect(lane)
    if lane.lane is Lane.SHADOW:
        return
    if trust is Trust.OPEN and any(topic.enabled for topic in lane.topics.values()):
        yield "mark: marks are not signed, so anyone who can produce can make a message shadow; add mark.keys"
    for section in ("topics", "rate_limit", "multi_key_rate_limit_v2", "resilience", "tasks", "data"):
        for name in layers.names(section, (Lane.NORMAL,)):
            prefix, dot, rest = name.partition(".")
            if dot and get_close_matches(prefix.lower(), ["shadow"], cutoff=0.8):
                yield f"{section} {name}: this is a key of the normal lane; did you mean `shadow.{rest}`?"


def _without_effect(lane: LaneSettings) -> Iterator[str]:
    for command, rule in (*lane.rates.items(), ("", lane.default_rate)):
        if rule and rule.soft_per_s is not None and rule.hard_per_s is not None and rule.soft_per_s > rule.hard_per_s:
            key = f"rate_limit {command}" if command else "default_rate_limit"
            yield f"{key}: in the {lane.lane} lane the soft rate is above the hard one, so it is never reached"
    for command, breaker in lane.breakers.items():
        if breaker and breaker.min_calls > breaker.window:
            yield f"resilience {command}: in the {lane.lane} lane min_calls is above window, so the breaker never opens"
    if "transactional.id" in lane.kafka and not lane.transactional:
        yield f"kafka transactional.id: no topic is transactional in the {lane.lane} lane, so nothing uses it"
