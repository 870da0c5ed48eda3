"""The settings as the other rooms see them: frozen, and resolved for each lane once, at load.

Nobody outside the configuration looks at YAML, layers or fallbacks. Units are in the names.

===============  ==========================================================
``rules``        how calls are limited
``lanes``        what one lane needs
``marks``        how marks are spelled and believed
``propagation``  how the signal crosses other wires
``service``      both lanes, and where the settings were loaded from
===============  ==========================================================
"""

from shadowstream.config.model.lanes import (
    FleetSettings,
    LaneSettings,
    OnLimit,
    Order,
    Route,
    TopicSettings,
    WorkerSettings,
)
from shadowstream.config.model.marks import MarkSettings, SigningKey, Trust
from shadowstream.config.model.propagation import PropagateSettings
from shadowstream.config.model.rules import BreakerRule, GuardSettings, KeysRule, Missing, RateRule
from shadowstream.config.model.service import Origin, Settings

__all__ = [
    "BreakerRule",
    "FleetSettings",
    "GuardSettings",
    "KeysRule",
    "LaneSettings",
    "MarkSettings",
    "Missing",
    "OnLimit",
    "Order",
    "Origin",
    "PropagateSettings",
    "RateRule",
    "Route",
    "Settings",
    "SigningKey",
    "TopicSettings",
    "Trust",
    "WorkerSettings",
]
