"""What a configuration that loads probably does not mean, and in what two of them, or two lanes of one, differ.

A problem stops a lane; a remark stops nobody. Both say where, what, and the cure.
"""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from shadowstream.config.checks import PLACES
from shadowstream.config.fields import SECTIONS
from shadowstream.config.lookup import Given, Layer, Layers, reading
from shadowstream.config.resolve import Explainer, FieldExplanation, exists, resolved
from shadowstream.errors import Problem, SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from shadowstream.config.model import Settings

__all__ = ["Difference", "differences", "lint", "unused"]

NORMAL, SHADOW = (Lane.NORMAL,), (Lane.SHADOW,)
LIMITS: Final = MappingProxyType(
    {
        "rate_limit": ("soft", "hard"),
        "default_rate_limit": ("soft_rate_limit", "hard_rate_limit"),
        "multi_key_rate_limit_v2": ("hard",),
        "resilience": ("max_concurrent",),
    }
)
"""What may reach a downstream from each lane, by section."""
RULES = ("rate_limit", "multi_key_rate_limit_v2", "resilience", "tasks")
NEEDS: Final = MappingProxyType(
    {
        ("rate_limit", "warm_from"): ("warm_up",),
        ("rate_limit", "warm_up"): ("soft", "hard"),
        ("rate_limit", "burst"): ("soft", "hard"),
        ("rate_limit", "on_soft"): ("soft",),
        ("rate_limit", "fleet"): ("hard",),
        ("default_rate_limit", "fleet"): ("hard_rate_limit",),
        ("default_rate_limit", "warm_from"): ("warm_up",),
        ("default_rate_limit", "warm_up"): ("soft_rate_limit", "hard_rate_limit"),
        ("default_rate_limit", "burst"): ("soft_rate_limit", "hard_rate_limit"),
        ("resilience", "warm_from"): ("warm_up",),
        ("resilience", "warm_up"): ("max_concurrent",),
        ("resilience", "slow_rate"): ("slow_call",),
        ("resilience", "open_for_max"): ("open_growth",),
        ("topics", "rest"): ("rounds",),
    }
)
"""Fields that change nothing unless one of these is set."""


class Field(NamedTuple):
    """One field of one side."""

    value: object
    told: FieldExplanation
    """The same as `config explain` tells it: secrets are starred out."""


class Difference(NamedTuple):
    """One field that is not the same on both sides; None where a side has no such rule."""

    key: str
    before: object
    after: object


def lint(settings: Settings) -> tuple[Problem, ...]:
    """Return what loads and is probably not meant, in the order of the sections.

    Raises:
        SetupError: the settings were built by hand, so nobody knows what was written.
    """
    layers = _layers(settings)
    return tuple(
        remark
        for section in SECTIONS
        for remarks in (_doubled, _of_shadow_alone, _closed, _without_effect, _one_place)
        for remark in remarks(layers, section)
    ) + tuple(_never_read(layers))


def unused(settings: Settings, commands: Collection[str]) -> tuple[Problem, ...]:
    """Return the rules that none of these commands goes by.

    Raises:
        SetupError: the settings were built by hand, so nobody knows what was written.
    """
    layers = _layers(settings)
    return tuple(
        _unused(given, name, commands)
        for section in ("rate_limit", "multi_key_rate_limit_v2", "resilience")
        for name in layers.names(section, (*NORMAL, *SHADOW))
        for given in [layers.rule(section, name, (*NORMAL, *SHADOW))]
        if name not in commands and given is not None
    )


def _unused(given: Given, name: str, commands: Collection[str]) -> Problem:
    near = get_close_matches(name, commands, n=1)
    cure = f"Did you mean `{near[0]}`?" if near else "Remove it, unless a call is guarded by it in a block."
    return _remark(given, "is a rule of a command that no handler and no decorated function goes by", cure)


def differences(before: Settings, after: Settings, lanes: tuple[Lane, Lane]) -> tuple[Difference, ...]:
    """Return what differs between one lane of some settings and one of others, secrets starred out.

    Raises:
        SetupError: one of them was built by hand.
    """
    old, new = (_seen(_layers(each), lane) for each, lane in zip((before, after), lanes, strict=True))
    keys = dict.fromkeys((*old, *new))
    return tuple(found for key in keys if (found := _difference(key, old.get(key), new.get(key))) is not None)


def _difference(key: str, old: Field | None, new: Field | None) -> Difference | None:
    """Return what differs; what a rule has by default is no difference to one that is not there."""
    if old is None or new is None:
        there = old or new
        given = there is not None and there.told.layer != Layer.DEFAULT
        return Difference(key, old and old.told.value, new and new.told.value) if given else None
    if old.value == new.value:
        return None
    starred = f"{new.told.value} (another)" if old.told.value == new.told.value else new.told.value
    return Difference(key, old.told.value, starred)


def _layers(settings: Settings) -> Layers:
    if settings.layers is None:
        raise SetupError("these settings were built by hand; only settings from load() can be looked through")
    return settings.layers


def _names(layers: Layers, section: str, lane: Lane) -> tuple[str, ...]:
    named = SECTIONS[section].named
    return layers.names(section, reading(lane, falls_back=section != "data")) if named else ("",)


def _seen(layers: Layers, lane: Lane) -> Mapping[str, Field]:
    """Return every field that the lane has."""
    explainer, seen = Explainer(layers, lane), dict[str, Field]()
    for section in SECTIONS:
        for name in _names(layers, section, lane):
            decides = exists(layers, section, name, lane)
            if SECTIONS[section].named and (decides is None or decides.empties):
                continue
            for each in explainer.fields_of(section, name):
                key = " ".join(word for word in (section, name, each) if word)
                value = resolved(layers, section, name, each, lane).value
                seen[key] = Field(value, explainer.field(section, name, each))
    return seen


def _doubled(layers: Layers, section: str) -> Iterator[Problem]:
    """Find limits that shadow has from normal: what is behind them may see twice as much."""
    for name in _names(layers, section, Lane.SHADOW) if section in LIMITS else ():
        for each in LIMITS[section]:
            given = resolved(layers, section, name, each, Lane.SHADOW).given
            if given is None or given.whole or not given.value or given.address.lane is Lane.SHADOW:
                continue
            told = f"shadow has it by fallback: what is behind it may see {given.node.plain()} from each lane"
            own = f"shadow.{name}: {{{each}: ...}}" if name else f"shadow_{each}: ..."
            yield _remark(given, told, f"Write `{own}` for shadow, or see that twice as much is borne.")


def _of_shadow_alone(layers: Layers, section: str) -> Iterator[Problem]:
    normal = layers.names(section, NORMAL)
    for name in layers.names(section, SHADOW) if section in RULES else ():
        given = layers.rule(section, name, SHADOW)
        if name in normal or given is None or given.empties:
            continue
        near = get_close_matches(name, normal, n=1)
        cure = f"Did you mean `shadow.{near[0]}`?" if near else f"Add `{name}` for normal, if it should have one too."
        yield _remark(given, "is a rule of shadow's alone: normal has none of this name", cure)


def _closed(layers: Layers, section: str) -> Iterator[Problem]:
    """Find limits that let nothing of normal through."""
    for name in layers.names(section, NORMAL) if section in {"rate_limit", "multi_key_rate_limit_v2"} else ():
        given = layers.find(section, name, "hard", NORMAL)
        if given is not None and not given.whole and given.value == 0:
            yield _remark(given, "admits no real message at all", "Write `null` for no limit, or a rate above 0.")


def _without_effect(layers: Layers, section: str) -> Iterator[Problem]:
    for (where, field), needs in NEEDS.items():
        for lane in Lane if where == section else ():
            for name in _names(layers, section, lane):
                given = layers.find(section, name, field, (lane,))
                if given is None or given.whole or any(_is_set(layers, section, name, need, lane) for need in needs):
                    continue
                wanted = " or ".join(f"`{need}`" for need in needs)
                yield _remark(given, f"changes nothing without {wanted}", f"Set {wanted}, or remove it.")


def _is_set(layers: Layers, section: str, name: str, field: str, lane: Lane) -> bool:
    found = resolved(layers, section, name, field, lane)
    return found.given is not None and not found.given.whole and bool(found.value)


def _one_place(layers: Layers, section: str) -> Iterator[Problem]:
    """Find sinks of both lanes that are at one place, told apart within it."""
    for name in layers.names(section, NORMAL) if section == "data" else ():
        given = layers.rule(section, name, SHADOW)
        places = [_place(layers, name, lane) for lane in Lane]
        if given is not None and places[0] and places[0] == places[1]:
            told = "is where normal's is: what fills, flushes or overloads it meets both lanes"
            yield _remark(given, told, "Give shadow a server or a database of its own, or see that this is borne.")


def _place(layers: Layers, name: str, lane: Lane) -> Mapping[str, object]:
    spoken = layers.fields("data", name, (lane,))
    return {each: resolved(layers, "data", name, each, lane).value for each in spoken if each in PLACES}


def _never_read(layers: Layers) -> Iterator[Problem]:
    """Find values of the file that a higher layer says otherwise."""
    for below, above in layers.covered():
        if below.layer is Layer.FILE and below.value != above.value:
            told = f"is never read: the {above.layer} layer says otherwise ({above.node.place})"
            yield _remark(below, told, "Remove one of the two.")


def _remark(given: Given, message: str, cure: str) -> Problem:
    return Problem(given.node.place, " ".join(given.spelled), message, cure)
