"""Shows a run while it goes on: a table that stays in place on a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shadowstream.errors import SetupError

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text
except ImportError as missing:
    raise SetupError("the demo needs rich, which is not installed; run `pip install 'shadowstream[demo]'`") from missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shadowstream.fcst.verdict import Finding
    from shadowstream.lane import Lane

__all__ = ["LaneView", "Screen", "View"]

LINE_EVERY_S = 2.0
BREAKER_STYLES = (("closed", "green"), ("half-open", "yellow"), ("open", "red"))


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane at one moment."""

    lane: Lane
    sent_per_s: float
    done_per_s: float
    p50_s: float | None
    p99_s: float | None
    backlog: Mapping[str, int]
    """Messages not settled, by service."""
    breakers: Mapping[str, str]
    """States by service."""


@dataclass(frozen=True, slots=True)
class View:
    """A run at one moment."""

    phase: str
    elapsed_s: float
    """Since the clock started."""
    lanes: tuple[LaneView, ...] = field(default_factory=tuple)


class Screen:
    """Where a run is shown."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._line_at = 0.0
        self._phase = ""

    def say(self, line: str) -> None:
        """Write one line."""
        self.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the table in place inside the block, where that is possible."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, view: View) -> None:
        """Show a run as it is now."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(Group(Text(_title(view), style="bold"), _table(view)), refresh=True)
        elif now >= self._line_at or view.phase != self._phase:
            self._line_at = now + LINE_EVERY_S
            self.say(f"{_title(view)} | " + " | ".join(_line(lane) for lane in view.lanes))
        self._phase = view.phase

    def verdict(self, findings: Iterable[Finding]) -> None:
        """Write what the laws come to."""
        for finding in findings:
            mark = ("ok", "green") if finding.ok else ("BROKEN", "bold red")
            line = Text.assemble((f"{mark[0]:>7}", mark[1]), "  ", (finding.law, "bold"), f": {finding.text}")
            self.console.print(line, soft_wrap=True)


def _title(view: View) -> str:
    return f"{view.elapsed_s:5.1f} s  {view.phase}"


def _line(lane: LaneView) -> str:
    backlog = "+".join(str(number) for number in lane.backlog.values())
    breakers = ",".join(state for state in lane.breakers.values())
    return (
        f"{lane.lane} {lane.sent_per_s:.0f}/s done {lane.done_per_s:.0f}/s p50 {_ms(lane.p50_s)} p99 {_ms(lane.p99_s)}"
        f" backlog {backlog} breakers {breakers}"
    )


def _table(view: View) -> Table:
    table = Table(box=None, pad_edge=False, caption="by service: messages waiting, and the breaker")
    for name in ("lane", "sent/s", "done/s", "p50", "p99", *_services(view)):
        table.add_column(name, justify="left" if name == "lane" else "right")
    for lane in view.lanes:
        table.add_row(
            lane.lane.value,
            f"{lane.sent_per_s:.0f}",
            f"{lane.done_per_s:.0f}",
            _ms(lane.p50_s),
            _ms(lane.p99_s),
            *(_cell(lane, service) for service in lane.backlog),
        )
    return table


def _services(view: View) -> list[str]:
    return list(view.lanes[0].backlog) if view.lanes else []


def _cell(lane: LaneView, service: str) -> Text:
    state = lane.breakers.get(service, "none")
    return Text.assemble(f"{lane.backlog[service]}\n", (state, dict(BREAKER_STYLES).get(state, "")))


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
