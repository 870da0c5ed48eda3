"""From a file, the environment and the live layer to frozen settings, or to everything that is wrong at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from shadowstream.config.checks import Checks, warnings
from shadowstream.config.document import Findings, Node, content_of, from_mapping, read
from shadowstream.config.fields import SECTIONS
from shadowstream.config.lookup import Layer, Layers, reading
from shadowstream.config.model import (
    BreakerRule,
    FleetSettings,
    GuardSettings,
    KeysRule,
    LaneSettings,
    MarkSettings,
    Origin,
    PropagateSettings,
    RateRule,
    Route,
    Settings,
    SigningKey,
    TopicSettings,
    WorkerSettings,
)
from shadowstream.config.resolve import exists, resolved
from shadowstream.config.signing import KeyWatch, Secrets
from shadowstream.config.spelling import Spelling, environment
from shadowstream.errors import ConfigError, Problem
from shadowstream.headers import Keyring
from shadowstream.lane import Lane

__all__ = ["Examined", "examine", "load", "version_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Examined:
    """What a configuration comes to: settings, unless normal's part is wrong."""

    settings: Settings | None
    normal_problems: tuple[Problem, ...]
    shadow_problems: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return all problems, normal's first."""
        return self.normal_problems + self.shadow_problems


def load(
    path: str | Path = "shadowstream.yaml",
    *,
    environ: Mapping[str, str] = os.environ,
    live: Mapping[str, object] | None = None,
    strict: bool = False,
) -> Settings:
    """Read, check and resolve one service's configuration; ``SHADOWSTREAM_CONFIG`` names another file than ``path``.

    Raises:
        ConfigError: normal's part is wrong, or with ``strict`` any part; it lists all problems of both parts.
    """
    found = examine(environ.get("SHADOWSTREAM_CONFIG", path), environ=environ, live=live)
    if found.settings is None or (strict and found.problems):
        raise ConfigError(found.problems)
    return found.settings


def examine(
    path: str | Path = "shadowstream.yaml",
    *,
    environ: Mapping[str, str] = os.environ,
    live: Mapping[str, object] | None = None,
    content: bytes | None = None,
) -> Examined:
    """Read and check a configuration without raising: the settings it makes, and what is wrong in each lane's part.

    ``content`` is what the file was found to hold; without it the file is read.
    """
    findings = Findings()
    held = content_of(path, findings) if content is None else content
    root = None if held is None else read(path, held, findings)
    if held is None or root is None:
        return Examined(None, findings.of(Lane.NORMAL), findings.of(Lane.SHADOW))
    layers = _layers(root, environ, live, findings)
    checks = Checks(layers, root, findings)
    checks.run()
    keys = Secrets(findings, environ, Path(path).parent).read(layers)
    normal_problems, shadow_problems = findings.of(Lane.NORMAL), findings.of(Lane.SHADOW)
    origin = Origin(path, environ, held, version_of(held, live))
    settings = None if normal_problems else _settings(layers, keys, shadow_problems, origin)
    return Examined(settings, normal_problems, shadow_problems)


def _layers(root: Node, environ: Mapping[str, str], live: Mapping[str, object] | None, findings: Findings) -> Layers:
    spelling = Spelling(findings)
    spelling.read(root, Layer.FILE)
    if live is not None:
        spelling.read(from_mapping(live, "live"), Layer.LIVE)
    for document in environment(environ, spelling.table(), findings):
        spelling.read(document, Layer.ENVIRONMENT)
    return spelling.table()


def version_of(content: bytes, live: Mapping[str, object] | None) -> str:
    """Return what tells configurations apart: twelve hex digits of the SHA-256 over the file and the live layer."""
    laid_over = b"" if live is None else json.dumps(from_mapping(live, "").plain(), sort_keys=True).encode()
    return sha256(content + laid_over).hexdigest()[:12]


def _settings(layers: Layers, keys: tuple[SigningKey, ...], problems: tuple[Problem, ...], origin: Origin) -> Settings:
    mark = MarkSettings(**{**_values(layers, "mark", "", Lane.NORMAL), "keys": keys, "keyring": _keyring(keys, origin)})
    normal = _lane(layers, Lane.NORMAL)
    shadow = None if problems else _lane(layers, Lane.SHADOW)
    lanes = (normal,) if shadow is None else (normal, shadow)
    return Settings(
        service=str(resolved(layers, "service", "", "service", Lane.NORMAL).value),
        mark=mark,
        normal=normal,
        shadow=shadow,
        shadow_problems=problems,
        warnings=tuple(text for lane in lanes for text in warnings(layers, lane, mark.trust)),
        fleet=_fleet(layers),
        propagate=PropagateSettings(**_values(layers, "propagate", "", Lane.NORMAL)),
        layers=layers,
        origin=origin,
    )


def _keyring(keys: tuple[SigningKey, ...], origin: Origin) -> Keyring:
    """Return the ring of these keys, which follows their files and the configuration once it is used."""
    keyring = Keyring((key.id, key.secret) for key in keys)
    if keys:
        watch = KeyWatch(keyring, Path(origin.path), keys, partial(_keys_now, origin))
        keyring.on_use = watch.start
    return keyring


def _keys_now(origin: Origin) -> tuple[SigningKey, ...] | str:
    """Return the keys that are there now, or why they cannot be gone by."""
    found = examine(origin.path, environ=origin.environ)
    wrong = [str(problem) for problem in found.problems if problem.key.startswith("mark ")]
    if found.settings is None or wrong:
        return "; ".join(wrong or map(str, found.problems))
    return found.settings.mark.keys or "mark keys: there are none any more, and whoever signs needs one"


def _lane(layers: Layers, lane: Lane) -> LaneSettings:
    topics = {name: _topic(layers, name, lane) for name in _names(layers, "topics", Lane.NORMAL)}
    return LaneSettings(
        lane=lane,
        kafka=MappingProxyType(_kafka(layers, lane)),
        topics=MappingProxyType(topics),
        worker=WorkerSettings(**_values(layers, "worker", "", lane)),
        default_rate=_rule(layers, "default_rate_limit", "", lane, RateRule),
        rates=_rules(layers, "rate_limit", lane, RateRule),
        breakers=_rules(layers, "resilience", lane, BreakerRule),
        key_limits=_rules(layers, "multi_key_rate_limit_v2", lane, _keys_rule),
        tasks=_mappings(layers, "tasks", lane),
        data=_mappings(layers, "data", lane),
        fleet=_fleet(layers) if lane is Lane.SHADOW else None,
        guard=_guard(layers),
    )


def _fleet(layers: Layers) -> FleetSettings | None:
    values = _values(layers, "fleet", "", Lane.NORMAL)
    service = str(resolved(layers, "service", "", "service", Lane.NORMAL).value)
    return None if values["url"] is None else FleetSettings(service, **values)


def _guard(layers: Layers) -> GuardSettings | None:
    """Return what normal must keep; without an objective there is a guard where normal is to leave something."""
    guard = GuardSettings(**_values(layers, "guard", "", Lane.NORMAL))
    names = _names(layers, "rate_limit", Lane.SHADOW)
    joint = any(resolved(layers, "rate_limit", name, "joint", Lane.SHADOW).value is not None for name in names)
    return guard if joint or guard != GuardSettings() else None


def _names(layers: Layers, section: str, lane: Lane) -> tuple[str, ...]:
    """Return the rules that some key of the lane speaks of."""
    names = layers.names(section, reading(lane, falls_back=section != "data"))
    return tuple(name for name in names if exists(layers, section, name, lane))


def _rule(layers: Layers, section: str, name: str, lane: Lane, make: Callable[..., T | None]) -> T | None:
    """Build one rule; None when it is null for the lane, or not there."""
    decides = exists(layers, section, name, lane)
    return None if decides is None or decides.empties else make(**_values(layers, section, name, lane))


def _rules(layers: Layers, section: str, lane: Lane, make: Callable[..., T | None]) -> Mapping[str, T | None]:
    names = _names(layers, section, lane)
    return MappingProxyType({name: _rule(layers, section, name, lane, make) for name in names})


def _keys_rule(*, hard_per_s: float | None, **values: Any) -> KeysRule | None:  # noqa: ANN401 - the fields, checked
    return None if hard_per_s is None else KeysRule(hard_per_s=hard_per_s, **values)


def _mappings(layers: Layers, section: str, lane: Lane) -> Mapping[str, Mapping[str, object]]:
    """Build the rules that take any field; one that is null for the lane is left out."""
    rules: dict[str, Mapping[str, object]] = {}
    for name in _names(layers, section, lane):
        decides = exists(layers, section, name, lane)
        if decides is not None and not decides.empties:
            rules[name] = MappingProxyType(_given(layers, section, name, lane))
    return MappingProxyType(rules)


def _values(layers: Layers, section: str, name: str, lane: Lane) -> dict[str, Any]:
    """Return every listed field of a rule by its name in the model."""
    fields = SECTIONS[section].fields
    return {spec.attribute: resolved(layers, section, name, each, lane).value for each, spec in fields.items()}


def _given(layers: Layers, section: str, name: str, lane: Lane) -> dict[str, Any]:
    """Return the fields of a rule that somebody gave, for sections that take any field."""
    about = SECTIONS[section]
    values: dict[str, Any] = {}
    for each in layers.fields(section, name, reading(lane, falls_back=section != "data")):
        spec = about.field(each)
        found = resolved(layers, section, name, each, lane)
        if found.given is not None and not found.given.whole:
            values[(spec.attribute if spec else "") or each] = _frozen(found.value)
    return values


def _kafka(layers: Layers, lane: Lane) -> dict[str, Any]:
    own = {each: resolved(layers, "kafka", "", each, lane).value for each in ("group.id", "client.id")}
    values = {**_given(layers, "kafka", "", lane), **own}
    return {name: value for name, value in values.items() if value is not None}


def _topic(layers: Layers, name: str, lane: Lane) -> TopicSettings:
    values = _values(layers, "topics", name, lane)
    # The one switch for both lanes is kept as normal's.
    values["enabled"] = resolved(layers, "topics", name, "enabled", Lane.NORMAL).value
    own_topic = lane is Lane.SHADOW and values["route"] is Route.TOPIC
    return TopicSettings(name=name, source=f"shadow.{name}" if own_topic else name, **values)


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
