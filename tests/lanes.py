"""Settings of one lane, without a file."""

from __future__ import annotations

from typing import Any

from shadowstream.config.model import LaneSettings, WorkerSettings
from shadowstream.lane import Lane


def lane_of(lane: Lane = Lane.SHADOW, **fields: Any) -> LaneSettings:
    """Return a lane that has nothing but these fields."""
    nothing: dict[str, Any] = {"kafka": {}, "topics": {}, "worker": WorkerSettings(), "default_rate": None}
    nothing |= {name: {} for name in ("rates", "breakers", "key_limits", "tasks", "data")}
    return LaneSettings(lane=lane, **nothing | fields)
