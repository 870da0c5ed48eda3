"""Frozen settings: ``shadow.*`` laid over normal, resolved once for each lane, and able to explain themselves.

The way through the room: ``document`` reads text into values that know their place, ``spelling`` turns both spellings
into addresses, ``lookup`` is the table of them, ``resolve`` says which value wins and why, ``checks`` holds what must
hold between keys, ``load`` puts it together. ``fields`` lists every key there is, ``model`` is what other rooms see,
``review`` says what loads and is probably not meant.
"""

from shadowstream.config.load import Examined, examine, load
from shadowstream.config.model import (
    BreakerRule,
    FleetSettings,
    KeysRule,
    LaneSettings,
    MarkSettings,
    OnLimit,
    Order,
    PropagateSettings,
    RateRule,
    Route,
    Settings,
    SigningKey,
    TopicSettings,
    Trust,
    WorkerSettings,
)
from shadowstream.config.resolve import Explanation, FieldExplanation, explain
from shadowstream.config.review import Difference, differences, lint, unused

__all__ = [
    "BreakerRule",
    "Difference",
    "Examined",
    "Explanation",
    "FieldExplanation",
    "FleetSettings",
    "KeysRule",
    "LaneSettings",
    "MarkSettings",
    "OnLimit",
    "Order",
    "PropagateSettings",
    "RateRule",
    "Route",
    "Settings",
    "SigningKey",
    "TopicSettings",
    "Trust",
    "WorkerSettings",
    "differences",
    "examine",
    "explain",
    "lint",
    "load",
    "unused",
]
