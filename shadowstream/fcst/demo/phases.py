"""What happens between set-up and verdict: warm up, normal alone, shadow ramped, its handler stuck, released.

Normal goes on at its steady rate from the first phase until the backlog is drained, so that it is measured beside
everything that shadow does.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.errors import BrokerError
from shadowstream.fcst.demo.table import LaneView, Screen, View
from shadowstream.fcst.load import Load, Stretch, steady
from shadowstream.fcst.observe import Books, Observer, quantile
from shadowstream.fcst.services import SERVICES, Numbers, Services
from shadowstream.fcst.topics import CHAIN
from shadowstream.fcst.verdict import Figures, Sent, Times, TopicCount
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from shadowstream.fcst.topics import RunTopics

__all__ = ["STUCK_SERVICE", "Chain", "Phases", "Plan"]

COMMANDS = ("voucher.dispatch", "voucher.use", "voucher.settle")
"""By service, in the order of the chain."""
STUCK_SERVICE = "taskv2"
"""Whose shadow handler hangs."""
PEAK = 10
"""Shadow's peak, in times the normal rate."""
WARM_UP_S = 2.0
READY_S = 60.0
ARRIVE_S = 30.0
DRAIN_S = 60.0
QUIET_S = 20.0
TICK_S = 0.5
RECENT_S = 5.0
RATES_OVER_S = 2.5
ENDLESS_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for."""

    bootstrap: str | None
    """A real cluster; None: the embedded broker."""
    normal_per_s: float
    seconds: float
    """A third each: normal alone, ramp, stuck."""

    @property
    def third_s(self) -> float:
        """How long each phase of the load is."""
        return self.seconds / 3


class Chain:
    """The running system as it is seen from outside: what was sent, what arrived, what the services say."""

    def __init__(self, topics: RunTopics, services: Services, loads: Mapping[Lane, Load]) -> None:
        self.loads = loads
        self.books = Books({lane: load.due for lane, load in loads.items()})
        self._topics = topics
        self._services = services
        self._observer = Observer(topics, self.books)
        self._numbers = Numbers()

    def observe(self) -> None:
        """Begin to read what passes."""
        self._observer.start()

    def stop(self) -> None:
        """Send and read nothing further."""
        for load in self.loads.values():
            load.stop()
        self._observer.stop()

    def check(self) -> None:
        """See that everything still runs.

        Raises:
            BrokerError: something ended before its time.
        """
        self._services.check()
        parts = {f"the {lane} load": load for lane, load in self.loads.items()} | {"the observer": self._observer}
        for name, part in parts.items():
            if part.failure is not None:
                raise BrokerError(f"{name} failed: {part.failure}") from part.failure

    def numbers(self) -> Numbers:
        """Return what the services' pages say now; the last word of all, while one does not answer."""
        numbers = self._services.numbers()
        if not numbers.missing:
            self._numbers = numbers
        return self._numbers

    def last_words(self) -> str:
        """Return the end of what each service wrote."""
        return self._services.last_words()

    def ready(self) -> str:
        """Return what is not ready yet: pages that do not answer, lanes without partitions."""
        numbers = self._services.numbers()
        lanes = {(name, lane) for name in SERVICES for lane in Lane}
        return ", ".join(numbers.missing or sorted(f"{name} {lane}" for name, lane in lanes - numbers.assigned))

    def sending(self) -> str:
        """Return the lanes whose load is not done with its schedule."""
        return ", ".join(lane for lane, load in self.loads.items() if not load.finished)

    def counts(self, numbers: Numbers) -> tuple[TopicCount, ...]:
        """Hold what was produced on each topic against what the services say of it."""
        return tuple(
            TopicCount(name, lane, self.books.produced[name, lane], numbers.outcomes_of(topic, lane))
            for name, topic in zip(CHAIN, self._topics.chain, strict=True)
            for lane in Lane
        )

    def totals(self) -> dict[Lane, tuple[int, int]]:
        """Return how many messages were sent and how many came to the end, by lane."""
        return {lane: (len(load.due), len(self.books.lanes[lane].arrived)) for lane, load in self.loads.items()}

    def sent(self, lane: Lane) -> Sent:
        """Tell what became of one lane's messages so far."""
        sent = self.loads[lane].sent()
        books = self.books.lanes[lane]
        arrived, aside = set(books.arrived), dict(books.aside)
        by_topic = {topic: sum(each == topic for each in aside.values()) for topic in set(aside.values())}
        missing = tuple(sorted(sent - arrived - set(aside)))
        return Sent(lane, len(sent), len(sent & arrived), books.again, by_topic, missing)

    def moving(self, lanes: tuple[Lane, ...]) -> str:
        """Return what still moves in these lanes, empty when all is quiet."""
        found = []
        for lane in lanes:
            if waiting := self.loads[lane].waiting:
                found.append(f"{waiting} {lane} messages are not delivered")
            if missing := len(self.sent(lane).missing):
                found.append(f"{missing} {lane} messages have not come to the end")
        if not found:
            counts = [each for each in self.counts(self.numbers()) if each.lane in lanes]
            found = [
                f"{each.topic} {each.lane}: {sum(each.outcomes.values())} of {each.produced} have an outcome"
                for each in counts
                if sum(each.outcomes.values()) != each.produced
            ]
        return "; ".join(found)


class Phases:
    """Leads a chain through the phases and takes the figures."""

    def __init__(self, plan: Plan, screen: Screen, chain: Chain, switch: Path) -> None:
        self._plan = plan
        self._screen = screen
        self._chain = chain
        self._switch = switch
        self._began = 0.0
        self._starts: list[tuple[str, float]] = []
        self._peak_backlog = 0
        self._past: deque[tuple[float, dict[Lane, tuple[int, int]]]] = deque()

    def run(self) -> Figures:
        """Go through all phases.

        Raises:
            BrokerError: the services do not get ready, or something ended before its time.
        """
        self._make_ready()
        with self._screen.watching():
            unquiet = self._go_through()
        return self._figures(unquiet)

    def _make_ready(self) -> None:
        self._wait_for(self._chain.ready, READY_S, "the services are not ready: no answer or no partitions from")
        self._screen.say("services ready: both lanes have their partitions; warming up")
        self._chain.observe()
        for lane, load in self._chain.loads.items():
            rate = self._plan.normal_per_s * (1 if lane is Lane.NORMAL else 2)
            load.start([steady(rate, WARM_UP_S)])
        self._wait_for(self._chain.sending, ARRIVE_S, "the first messages cannot be sent in the")
        self._wait_for(lambda: self._chain.moving(tuple(Lane)), ARRIVE_S, "the first messages did not come through:")

    def _wait_for(self, waiting: Callable[[], str], seconds: float, trouble: str) -> None:
        until = time.monotonic() + seconds
        while what := waiting():
            self._chain.check()
            if time.monotonic() > until:
                words = self._chain.last_words() or "the services wrote nothing; see what keeps this machine busy"
                raise BrokerError(f"after {seconds:.0f} s {trouble} {what}\n{words}")
            time.sleep(0.2)

    def _go_through(self) -> str:
        """Run the phases on one clock; returns what still moves at the end."""
        rate, third_s = self._plan.normal_per_s, self._plan.third_s
        normal, shadow = self._chain.loads[Lane.NORMAL], self._chain.loads[Lane.SHADOW]
        self._began = time.monotonic()
        normal.start([steady(rate, ENDLESS_S)])
        self._phase("baseline", third_s)
        shadow.start([Stretch(third_s, rate, PEAK * rate), steady(PEAK * rate, third_s)])
        self._phase("ramp", third_s)
        self._switch.touch()
        self._phase("stuck", third_s)
        self._switch.unlink(missing_ok=True)
        # A moment beside the drain in any case, so that normal is measured there too.
        self._phase("release", DRAIN_S, lambda: self._since_phase() > RECENT_S and self._drained())
        normal.stop()
        self._phase("quiet", QUIET_S, lambda: not self._chain.moving(tuple(Lane)))
        return self._chain.moving(tuple(Lane))

    def _drained(self) -> bool:
        return not self._chain.moving((Lane.SHADOW,))

    def _since_phase(self) -> float:
        return time.monotonic() - self._starts[-1][1]

    def _phase(self, name: str, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Watch for some seconds, or until it is over."""
        start = time.monotonic()
        self._starts.append((name, start))
        tick = start
        while time.monotonic() < start + seconds and not over():
            self._look(name)
            tick += TICK_S
            time.sleep(max(min(tick, start + seconds) - time.monotonic(), 0.0))

    def _look(self, phase: str) -> None:
        self._chain.check()
        now = time.monotonic()
        numbers = self._chain.numbers()
        backlogs = self._backlogs(numbers)
        if phase == "stuck":
            self._peak_backlog = max(self._peak_backlog, backlogs[Lane.SHADOW][STUCK_SERVICE])
        self._past.append((now, self._chain.totals()))
        while now - self._past[0][0] > RATES_OVER_S:
            self._past.popleft()
        lanes = tuple(self._view(lane, now, backlogs[lane], numbers) for lane in Lane)
        self._screen.show(View(phase, now - self._began, lanes))

    def _backlogs(self, numbers: Numbers) -> dict[Lane, dict[str, int]]:
        backlogs: dict[Lane, dict[str, int]] = {lane: {} for lane in Lane}
        for count, name in zip(self._chain.counts(numbers), [name for name in SERVICES for _ in Lane], strict=True):
            backlogs[count.lane][name] = max(count.produced - sum(count.outcomes.values()), 0)
        return backlogs

    def _view(self, lane: Lane, now: float, backlog: Mapping[str, int], numbers: Numbers) -> LaneView:
        then, before = self._past[0]
        _, after = self._past[-1]
        over_s = max(now - then, TICK_S)
        recent = self._chain.books.lanes[lane].recent(now - RECENT_S)
        return LaneView(
            lane=lane,
            sent_per_s=(after[lane][0] - before[lane][0]) / over_s,
            done_per_s=(after[lane][1] - before[lane][1]) / over_s,
            p50_s=quantile(recent, 0.5),
            p99_s=quantile(recent, 0.99),
            backlog=backlog,
            breakers={
                name: numbers.breakers.get((command, lane), "none")
                for name, command in zip(SERVICES, COMMANDS, strict=True)
            },
        )

    def _figures(self, unquiet: str) -> Figures:
        numbers = self._chain.numbers()
        return Figures(
            normal_per_s=self._rate(Lane.NORMAL, "baseline"),
            shadow_per_s=self._rate(Lane.SHADOW, "stuck"),
            backlog=self._peak_backlog,
            times=tuple(self._times(phase, lane) for phase, _ in self._starts[:-1] for lane in Lane),
            sent=tuple(self._chain.sent(lane) for lane in Lane),
            topics=self._chain.counts(numbers),
            strayed=tuple(sorted(self._chain.books.strayed)),
            unquiet=unquiet,
            opened={f"{command} {lane}": times for (command, lane), times in numbers.opened.items()},
            taken_away=numbers.taken_away,
        )

    def _span(self, phase: str) -> tuple[float, float]:
        names = [name for name, _ in self._starts]
        at = names.index(phase)
        return self._starts[at][1], self._starts[at + 1][1]

    def _rate(self, lane: Lane, phase: str) -> float:
        start, end = self._span(phase)
        due = list(self._chain.loads[lane].due.values())
        return sum(start <= each < end for each in due) / (end - start)

    def _times(self, phase: str, lane: Lane) -> Times:
        start, end = self._span(phase)
        books = self._chain.books.lanes[lane]
        seconds = books.latencies(start, end)
        by_second = (quantile(books.latencies(start + n, start + n + 1), 0.99) for n in range(int(end - start)))
        return Times(
            phase=phase,
            lane=lane,
            messages=len(seconds),
            p50_s=quantile(seconds, 0.5),
            p99_s=quantile(seconds, 0.99),
            max_s=max(seconds, default=None),
            typical_p99_s=quantile(filter(None, by_second), 0.5),
        )
