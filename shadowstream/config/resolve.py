"""Which value wins for a lane, and why: the settings are built from these answers, so an explanation cannot lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from shadowstream.config.fields import SECTIONS, masked, meant
from shadowstream.config.lookup import Given, Layer, Layers, reading
from shadowstream.config.model import OnLimit, Settings, Trust
from shadowstream.errors import SetupError
from shadowstream.lane import Lane

__all__ = ["Explainer", "Explanation", "FieldExplanation", "Resolved", "exists", "explain", "resolved"]

SHADOW_NICE = 10


@dataclass(frozen=True, slots=True)
class Resolved:
    """One field of one lane: its value and what decided it."""

    value: object = field(repr=False)
    given: Given | None = None
    """Who gave it; None when it is a default."""
    why: str = ""
    """What the plain lookup does not tell."""
    computed: bool = False
    """Whether the value is made from what was given, and not given itself."""


@dataclass(frozen=True, slots=True)
class FieldExplanation:
    """Where one field of a rule comes from."""

    value: object
    key_used: str | None
    layer: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a value comes from, in the words of the configuration; secrets are starred out."""

    value: object
    key_used: str | None
    """The most specific key that gave anything; None for a default."""
    layer: str
    reason: str
    """One plain sentence."""
    fields: Mapping[str, FieldExplanation]
    """For a rule: each of its fields, defaults included."""
    lane: Lane = Lane.NORMAL


def resolved(layers: Layers, section: str, name: str, field_name: str, lane: Lane) -> Resolved:
    """Return the value of one field for one lane."""
    spec = SECTIONS[section].field(field_name)
    lanes = reading(lane, falls_back=spec is None or spec.falls_back)
    given = layers.find(section, name, field_name, lanes)
    special = SPECIAL.get((section, field_name))
    if special is not None and (answer := special(layers, lane, given)) is not None:
        return answer
    default = spec.default if spec else None
    if given is None:
        return Resolved(default)
    return Resolved(default if given.whole else given.value, given)


def exists(layers: Layers, section: str, name: str, lane: Lane) -> Given | None:
    """Return what decides whether a lane has a rule; None when no key speaks of it."""
    return layers.rule(section, name, reading(lane, falls_back=section != "data"))


def _on_limit(_layers: Layers, lane: Lane, _given: Given | None) -> Resolved | None:
    if lane is Lane.SHADOW:
        return None
    return Resolved(OnLimit.WAIT, None, "the normal lane always waits", computed=True)


def _group(layers: Layers, lane: Lane, given: Given | None) -> Resolved | None:
    if lane is Lane.NORMAL or given is not None:
        return None
    base = resolved(layers, "kafka", "", "group.id", Lane.NORMAL)
    value = None if base.value is None else f"{base.value}.shadow"
    return Resolved(value, base.given, "the shadow lane's group is the normal one with .shadow after it", computed=True)


def _client(layers: Layers, lane: Lane, given: Given | None) -> Resolved:
    base = given or layers.find("service", "", "service", (Lane.NORMAL,))
    value = None if base is None else f"{base.value}.{lane}"
    return Resolved(value, base, f"each lane's client is told apart by .{lane} after it", computed=True)


def _nice(_layers: Layers, lane: Lane, given: Given | None) -> Resolved | None:
    if lane is Lane.NORMAL or given is not None:
        return None
    return Resolved(SHADOW_NICE, None, "the shadow lane gives way to the normal one by default", computed=True)


def _port(layers: Layers, lane: Lane, given: Given | None) -> Resolved | None:
    if lane is Lane.NORMAL or given is not None:
        return None
    base = resolved(layers, "worker", "", "metrics_port", Lane.NORMAL)
    if not isinstance(base.value, int):
        return None
    return Resolved(base.value + 1, base.given, "the shadow lane's port is the normal one plus 1", computed=True)


def _trust(layers: Layers, _lane: Lane, given: Given | None) -> Resolved | None:
    if given is not None:
        return None
    keys = layers.find("mark", "", "keys", (Lane.NORMAL,))
    if keys is not None and keys.value:
        return Resolved(Trust.SIGNED, None, "marks must be signed because mark.keys has keys", computed=True)
    return Resolved(Trust.OPEN, None, "marks are open because mark.keys has no keys", computed=True)


def _lease(layers: Layers, _lane: Lane, given: Given | None) -> Resolved | None:
    if given is not None:
        return None
    signed = resolved(layers, "mark", "", "trust", Lane.NORMAL).value is Trust.SIGNED
    why = "runs need a lease because marks are signed" if signed else "runs need no lease because marks are not signed"
    return Resolved(signed, None, why, computed=True)


Special = Callable[[Layers, Lane, Given | None], Resolved | None]
SPECIAL: Mapping[tuple[str, str], Special] = MappingProxyType(
    {
        ("topics", "on_limit"): _on_limit,
        ("kafka", "group.id"): _group,
        ("kafka", "client.id"): _client,
        ("worker", "nice"): _nice,
        ("worker", "metrics_port"): _port,
        ("mark", "trust"): _trust,
        ("fleet", "lease"): _lease,
    }
)


def explain(settings: Settings, section: str, key: str, lane: Lane) -> Explanation:
    """Say where a value comes from: a field of a section, a rule by its name, or ``NAME FIELD`` inside one.

    Raises:
        SetupError: there is no such section or field, or the settings were not loaded from a file.
    """
    if settings.layers is None:
        raise SetupError("these settings were built by hand; only settings from load() can be explained")
    if section.startswith("shadow."):
        section, lane = section.removeprefix("shadow."), Lane.SHADOW
    if section not in SECTIONS:
        raise SetupError(f"there is no section {section!r} in the configuration. {meant(section, tuple(SECTIONS))}")
    explainer = Explainer(settings.layers, lane)
    found = replace(explainer.of(section, key), lane=explainer.lane)
    if explainer.lane is Lane.SHADOW and settings.shadow is None:
        return replace(found, reason=f"{found.reason} (the shadow lane is off, see `config check`)")
    return found


class Explainer:
    """Puts the answers of ``resolved`` into words."""

    def __init__(self, layers: Layers, lane: Lane) -> None:
        self._layers = layers
        self.lane = lane

    def of(self, section: str, key: str) -> Explanation:
        """Explain one key of a section."""
        if key.startswith("shadow."):
            key, self.lane = key.removeprefix("shadow."), Lane.SHADOW
        name, _, field_name = key.partition(" ")
        if not SECTIONS[section].named:
            return self._leaf(section, "", self._bare(key))
        if field_name:
            return self._leaf(section, name, self._bare(field_name))
        return self._rule(section, name)

    def _bare(self, key: str) -> str:
        if key.startswith("shadow_"):
            self.lane = Lane.SHADOW
        return key.removeprefix("shadow_")

    def _leaf(self, section: str, name: str, field_name: str) -> Explanation:
        if SECTIONS[section].field(field_name) is None:
            known = tuple(SECTIONS[section].fields)
            raise SetupError(f"section {section!r} has no field {field_name!r}. {meant(field_name, known)}")
        found = resolved(self._layers, section, name, field_name, self.lane)
        told = self.field(section, name, field_name)
        return Explanation(told.value, told.key_used, told.layer, self._why(found, section, field_name), {})

    def _rule(self, section: str, name: str) -> Explanation:
        decides = exists(self._layers, section, name, self.lane)
        if decides is None:
            return self._absent(section, name)
        if decides.empties:
            reason = f"`{_key(decides, section)}` is null in {_where(decides)}, so {self._the_lane()} has no such rule"
            return Explanation(None, _key(decides, section), decides.layer, reason, {})
        fields = {each: self.field(section, name, each) for each in self.fields_of(section, name)}
        given = {each: told.value for each, told in fields.items() if told.layer != Layer.DEFAULT}
        return Explanation(given, _key(decides, section), decides.layer, self._rule_reason(decides, section), fields)

    def _absent(self, section: str, name: str) -> Explanation:
        if section != "rate_limit":
            where = "data goes nowhere: sinks never fall back" if section == "data" else "it has no such rule"
            reason = f"{self._the_lane()} finds no key for {name!r} in any layer, so {where}"
            return Explanation(None, None, Layer.DEFAULT, reason, {})
        spoken = SECTIONS["default_rate_limit"].fields
        fields = {each: self.field("default_rate_limit", "", each) for each in spoken}
        given = {each: told.value for each, told in fields.items() if told.layer != Layer.DEFAULT}
        decides = exists(self._layers, "default_rate_limit", "", self.lane)
        start = f"no key in rate_limit speaks of {name!r}, so {self._the_lane()} takes default_rate_limit"
        if decides is None:
            return Explanation(None, None, Layer.DEFAULT, f"{start}, which is not set either: no limit", fields)
        value = None if decides.empties else given
        return Explanation(value, _key(decides, ""), decides.layer, f"{start} from {_where(decides)}", fields)

    def fields_of(self, section: str, name: str) -> tuple[str, ...]:
        """Return the fields of a rule, those that are listed and those that somebody gave."""
        lanes = reading(self.lane, falls_back=section != "data")
        listed = (each for each in SECTIONS[section].fields if each != "every_s")
        return tuple(dict.fromkeys((*listed, *self._layers.fields(section, name, lanes))))

    def field(self, section: str, name: str, field_name: str) -> FieldExplanation:
        """Say where one field comes from; secrets are starred out."""
        found = resolved(self._layers, section, name, field_name, self.lane)
        given = found.given
        if given is None or given.whole:
            return FieldExplanation(_spoken(found.value, field_name), None, Layer.DEFAULT)
        value = found.value if found.computed else given.node.plain()
        return FieldExplanation(masked(value, field_name), _key(given, section), given.layer)

    def _why(self, found: Resolved, section: str, field_name: str) -> str:
        given = found.given
        if given is None:
            return found.why or f"no layer sets `{field_name}` for {self._the_lane()}, so it has its default"
        key, where = _key(given, section), _where(given)
        if found.computed:
            return f"`{key}` is set in {where}, and {found.why}"
        if given.whole:
            return f"`{key}` is null in {where}, so {self._the_lane()} has the default of `{field_name}`"
        return self._reads(given, key, where)

    def _rule_reason(self, decides: Given, section: str) -> str:
        sentence = self._reads(decides, _key(decides, section), _where(decides))
        if self.lane is Lane.SHADOW and decides.address.lane is Lane.SHADOW and section != "data":
            return f"{sentence}, and what it leaves out falls back field by field"
        return sentence

    def _reads(self, given: Given, key: str, where: str) -> str:
        if self.lane is Lane.SHADOW and given.address.lane is Lane.NORMAL:
            return f"no layer sets a shadow key, so the shadow lane falls back to `{key}`, set in {where}"
        return f"{self._the_lane()} reads `{key}`, set in {where}"

    def _the_lane(self) -> str:
        return f"the {self.lane} lane"


def _spoken(value: object, key: str) -> object:
    if isinstance(value, StrEnum):
        return value.value
    return masked(value, key)


def _where(given: Given) -> str:
    return "the live layer" if given.layer is Layer.LIVE else f"the {given.layer} ({given.node.place})"


def _key(given: Given, section: str) -> str:
    """Return the key as spelled, without the section that was asked for."""
    keys = given.spelled[1:] if given.spelled[:1] == (section,) else given.spelled
    return " ".join(keys) or section
