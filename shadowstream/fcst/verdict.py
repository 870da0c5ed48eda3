"""The laws, as checks over numbers: nothing here measures, waits or knows Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Figures", "Finding", "Sent", "Times", "TopicCount", "judged"]

SLACK_FACTOR = 2.0
TYPICAL_SLACK_S = 0.05
OVERALL_SLACK_S = 1.0
PEAK = 9.0
FEWEST = 100
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Times:
    """How long one lane's messages took through the whole chain, those meant to be sent in one phase."""

    phase: str
    lane: Lane
    messages: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    typical_p99_s: float | None
    """The middle one of the p99s of each second."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the messages that one lane was sent, by their ids."""

    lane: Lane
    sent: int
    handled: int
    """Ids that came to the end of the chain."""
    again: int
    """Messages at the end of the chain whose id had come before."""
    aside: Mapping[str, int] = field(default_factory=dict)
    """Ids on side topics, by topic."""
    missing: tuple[str, ...] = ()
    """Ids that were sent and are nowhere."""


@dataclass(frozen=True, slots=True)
class TopicCount:
    """One topic in one lane: what was produced, and how the service says it ended."""

    topic: str
    lane: Lane
    produced: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that one run is judged by."""

    normal_per_s: float
    """The rate of real traffic, as sent."""
    shadow_per_s: float
    """The rate of shadow traffic at its peak, as sent."""
    backlog: int
    """Most shadow messages that waited at once while the handler was stuck."""
    times: tuple[Times, ...]
    sent: tuple[Sent, ...]
    topics: tuple[TopicCount, ...]
    strayed: tuple[str, ...] = ()
    """Ids that were met in the other lane than they were sent in."""
    unquiet: str = ""
    """What still moved when the time to drain was up; empty when all was quiet."""
    opened: Mapping[str, int] = field(default_factory=dict)
    """How often each breaker opened, by command and lane."""
    taken_away: int = 0
    """How often partitions were revoked or lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one law comes to in one run."""

    law: str
    ok: bool
    text: str


def judged(figures: Figures) -> tuple[Finding, ...]:
    """Hold the figures against the laws."""
    return (
        _really_tested(figures),
        _not_slower(figures),
        *(_all_handled(sent) for sent in figures.sent if sent.lane is Lane.NORMAL),
        *(_none_lost(sent) for sent in figures.sent if sent.lane is Lane.SHADOW),
        _one_outcome(figures),
        _lanes_kept(figures),
        _breakers_apart(figures),
        _drained(figures),
    )


def _really_tested(figures: Figures) -> Finding:
    wanted = figures.normal_per_s * PEAK
    text = (
        f"shadow ran at {figures.shadow_per_s:.0f}/s beside {figures.normal_per_s:.0f}/s of real traffic, and"
        f" {figures.backlog} of its messages waited behind the stuck handler"
    )
    ok = figures.shadow_per_s >= wanted and figures.backlog >= figures.shadow_per_s
    return Finding("the test was one", ok, text if ok else f"{text}; that proves nothing, give it more --seconds")


def _not_slower(figures: Figures) -> Finding:
    """Compare normal's p99 in each phase with the one before the test.

    A machine that stands still for half a second, with other work to do, spoils the p99 of a phase but not of most of
    its seconds; a backlog in the way spoils every second. So the typical second is held to a tight limit, the phase to
    a wide one.
    """
    law = "real users did not feel it"
    normal = {times.phase: times for times in figures.times if times.lane is Lane.NORMAL}
    before = normal.pop("baseline", None)
    if before is None or before.p99_s is None or before.typical_p99_s is None or before.messages < FEWEST:
        seen = before.messages if before else 0
        return Finding(law, ok=False, text=f"{seen} messages before the test are too few to compare with ({FEWEST})")
    overall = _Limit(before.p99_s, OVERALL_SLACK_S, {phase: times.p99_s for phase, times in normal.items()})
    typical = _Limit(
        before.typical_p99_s, TYPICAL_SLACK_S, {phase: times.typical_p99_s for phase, times in normal.items()}
    )
    text = f"normal p99 {overall}; in a typical second {typical}"
    return Finding(law, ok=bool(normal) and not overall.over() and not typical.over(), text=text)


@dataclass(frozen=True, slots=True)
class _Limit:
    """One number before the test, and the same in each phase of it."""

    before_s: float
    slack_s: float
    during_s: Mapping[str, float | None]

    def limit_s(self) -> float:
        return self.before_s * SLACK_FACTOR + self.slack_s

    def over(self) -> list[str]:
        return [phase for phase, seconds in self.during_s.items() if seconds is None or seconds > self.limit_s()]

    def __str__(self) -> str:
        told = ", ".join(f"{phase} {_ms(seconds)}" for phase, seconds in self.during_s.items()) or "nothing"
        over = f", over: {', '.join(self.over())}" if self.over() else ""
        return f"{_ms(self.before_s)} before; {told} (limit {_ms(self.limit_s())}{over})"


def _all_handled(sent: Sent) -> Finding:
    text = f"{sent.sent} sent, {sent.handled} handled, {sent.again} twice{_aside(sent.aside)}{_missing(sent.missing)}"
    whole = sent.sent == sent.handled > 0 and not sent.missing and not sent.aside and not sent.again
    return Finding("normal: sent = handled", whole, text)


def _none_lost(sent: Sent) -> Finding:
    text = f"{sent.sent} sent, {sent.handled} handled, {sent.again} twice{_aside(sent.aside)}{_missing(sent.missing)}"
    return Finding("shadow: nothing lost", sent.sent > 0 and not sent.missing, text)


def _one_outcome(figures: Figures) -> Finding:
    wrong = [count for count in figures.topics if sum(count.outcomes.values()) != count.produced]
    shadow = [count for count in figures.topics if count.lane is Lane.SHADOW]
    text = f"{len(figures.topics)} topics and lanes add up; shadow: " + "; ".join(map(_count, shadow))
    if wrong:
        text = "; ".join(map(_count, wrong))
        if figures.taken_away:
            text += f" (partitions were taken away {figures.taken_away} times: what was in flight was read again)"
    return Finding("each message in one outcome", not wrong and bool(shadow), text)


def _lanes_kept(figures: Figures) -> Finding:
    ids = ", ".join(sorted(figures.strayed)[:SHOWN])
    text = f"{len(figures.strayed)} messages changed their lane: {ids}" if ids else "no message changed its lane"
    return Finding("the lane never changes", not ids, text)


def _breakers_apart(figures: Figures) -> Finding:
    told = ", ".join(f"{name} {times} times" for name, times in sorted(figures.opened.items()) if times)
    normal = any(times for name, times in figures.opened.items() if name.endswith(f" {Lane.NORMAL}"))
    text = f"opened: {told or 'none'}"
    return Finding("shadow trips no breaker of normal", not normal, text)


def _drained(figures: Figures) -> Finding:
    text = f"still moving: {figures.unquiet}" if figures.unquiet else "the backlog drained once it was released"
    return Finding("it comes to rest", not figures.unquiet, text)


def _count(count: TopicCount) -> str:
    parts = " + ".join(f"{number} {outcome}" for outcome, number in sorted(count.outcomes.items()) if number) or "0"
    same = "=" if sum(count.outcomes.values()) == count.produced else "is not"
    return f"{count.topic} {count.lane}: {count.produced} {same} {parts}"


def _aside(aside: Mapping[str, int]) -> str:
    return "".join(f", {number} on {topic}" for topic, number in sorted(aside.items()))


def _missing(missing: Iterable[str]) -> str:
    ids = sorted(missing)
    return f", {len(ids)} missing ({', '.join(ids[:SHOWN])}{' ...' if len(ids) > SHOWN else ''})" if ids else ""


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1000:.0f} ms"
