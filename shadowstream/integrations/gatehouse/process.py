"""In which lane this process is."""

from __future__ import annotations

import os

from shadowstream.kafka.worker.supervisor import LANE_VARIABLE
from shadowstream.lane import Lane

__all__ = ["lane_of_process"]


def lane_of_process(lane: Lane | str | None) -> Lane:
    """Return the lane that was named, else the one that the environment names, else normal.

    Raises:
        ValueError: there is no such lane.
    """
    return Lane(lane or os.environ.get(LANE_VARIABLE, Lane.NORMAL))
