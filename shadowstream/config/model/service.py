"""One service: both lanes, the mark, and where all of it was loaded from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shadowstream.config.model.propagation import PropagateSettings
from shadowstream.errors import ConfigError, Problem, SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shadowstream.config.lookup import Layers
    from shadowstream.config.model.lanes import FleetSettings, LaneSettings, TopicSettings
    from shadowstream.config.model.marks import MarkSettings

__all__ = [
    "Origin",
    "Settings",
]


@dataclass(frozen=True, slots=True)
class Origin:
    """What settings were loaded from."""

    path: str | Path
    environ: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    version: str
    """Twelve hex digits of the SHA-256 of the file and the live layer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One service's configuration.

    ``shadow`` is None when only shadow's part is wrong: normal runs, shadow does not, and ``shadow_problems`` says why.
    """

    service: str
    mark: MarkSettings
    normal: LaneSettings
    shadow: LaneSettings | None
    shadow_problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    fleet: FleetSettings | None = None
    """What the shadow lane's processes share; also when that lane is off, for whoever wants to stop it."""
    propagate: PropagateSettings = field(default_factory=PropagateSettings)
    """How the signal crosses wires other than Kafka."""
    layers: Layers | None = field(default=None, repr=False, compare=False)
    """What the values were resolved from, for ``config explain``."""
    origin: Origin | None = field(default=None, repr=False, compare=False)
    """Where to look for changes; None when they were built by hand."""

    def of(self, lane: Lane) -> LaneSettings:
        """Return one lane's settings.

        Raises:
            ConfigError: the shadow lane is off; its problems say why.
        """
        if Lane(lane) is Lane.NORMAL:
            return self.normal
        if self.shadow is None:
            raise ConfigError(self.shadow_problems)
        return self.shadow

    def topic(self, name: str, lane: Lane) -> TopicSettings:
        """Return one topic's settings in one lane.

        Raises:
            SetupError: the configuration has no such topic.
        """
        try:
            return self.of(lane).topics[name]
        except KeyError:
            known = ", ".join(sorted(self.normal.topics)) or "none"
            raise SetupError(
                f"topic {name!r} is not configured (configured: {known}); add `{name}: {{}}` under `topics:`"
            ) from None

    def transactional(self, name: str) -> bool:
        """Tell whether a lane commits a topic in transactions.

        Raises:
            SetupError: the configuration has no such topic.
        """
        lanes = [Lane.NORMAL] if self.shadow is None else list(Lane)
        return any(self.topic(name, lane).transactional for lane in lanes)
