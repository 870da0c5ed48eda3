"""Lane and run on every line that is logged, for logging and for structlog.

::

    handler.addFilter(LaneFilter())                 # then `%(lane)s` and `%(run)s` in the format
    structlog.configure(processors=[lane_and_run, ...])

Trap: a filter on a logger does not see what its children log; put it on the handlers
(``test_every_line_says_its_lane_whichever_logger_wrote_it``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from shadowstream.lane import Lane, mark_here

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["LaneFilter", "lane_and_run"]


class LaneFilter(logging.Filter):
    """Gives each record a ``lane`` and a ``run``, empty when there is none; lets all of them through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say where the work at hand belongs."""
        mark = mark_here()
        record.lane = (Lane.NORMAL if mark is None else Lane.SHADOW).value
        record.run = "" if mark is None else mark.run or ""
        return True


def lane_and_run(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add ``lane``, and ``run`` where there is one; a structlog processor."""
    mark = mark_here()
    event["lane"] = (Lane.NORMAL if mark is None else Lane.SHADOW).value
    if mark is not None and mark.run is not None:
        event["run"] = mark.run
    return event
