"""Lane and run on every line that is logged."""

from __future__ import annotations

import io
import logging
from typing import Any

import structlog

import shadowstream as ss
from shadowstream.propagate.logs import LaneFilter, lane_and_run

MARK = ss.Mark(run="fcst-1111")


def test_every_line_says_its_lane_whichever_logger_wrote_it() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(lane)s|%(run)s|%(message)s"))
    handler.addFilter(LaneFilter())
    parent = logging.getLogger("tests.lanes")
    parent.addHandler(handler)
    try:
        for where in (parent, logging.getLogger("tests.lanes.child")):
            where.warning("one")
            with ss.entered(MARK):
                where.warning("two")
            with ss.entered(ss.Mark()):
                where.warning("three")
    finally:
        parent.removeHandler(handler)
    assert written.getvalue().splitlines() == ["normal||one", "shadow|fcst-1111|two", "shadow||three"] * 2


def test_structlog_lines_say_it_too() -> None:
    lines: list[dict[str, Any]] = []

    def kept(_logger: object, _method: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[lane_and_run, kept])
    log.info("one")
    with ss.entered(MARK):
        log.info("two", run="somebody's own")
    assert lines == [{"event": "one", "lane": "normal"}, {"event": "two", "lane": "shadow", "run": "fcst-1111"}]
