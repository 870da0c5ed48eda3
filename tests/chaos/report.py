"""What one seed came to, as a row of a table and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.oracle import Case, Evidence, judged
from tests.chaos.records import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.faults import Hands
    from tests.chaos.plan import Plan

COLUMNS = {
    "seed": "seed",
    "protocol": "protocol",
    "faults": "faults",
    "normal_sent": "normal sent",
    "normal_handled": "handled",
    "normal_failed": "failed",
    "normal_repeated": "repeated",
    "normal_lost": "lost",
    "shadow_sent": "shadow sent",
    "shadow_ended": "ended",
    "shadow_lost": "lost",
    "worst_wait_s": "worst wait s",
    "seconds": "seconds",
    "verdict": "verdict",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one seed came to."""

    seed: int
    protocol: str
    faults: int
    faults_by_kind: dict[str, int]
    faults_not_done: list[str]
    normal_sent: int
    """Messages in the log, acknowledged or not; one that lies there twice counts once."""
    normal_handled: int
    normal_failed: int
    normal_repeated: int
    normal_lost: int
    shadow_sent: int
    shadow_ended: int
    shadow_outcomes: dict[str, int]
    shadow_repeated: int
    shadow_lost: int
    not_acknowledged: int
    written_twice: int
    """By the load's own producer, whose leader died."""
    worst_wait_s: float
    """The longest time from a normal message's acknowledgement to its handler's end."""
    median_wait_s: float
    rebalances: int
    commits_failed: dict[str, int]
    exits: dict[str, int]
    violations: list[str]
    seconds: float

    @property
    def verdict(self) -> str:
        """Whether everything held."""
        return "FAILED" if self.violations else "held"

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "verdict": self.verdict}


def verdict(plan: Plan, hands: Hands, evidence: Evidence, seconds: float) -> Verdict:
    """Judge one seed."""
    case = Case(evidence)
    violations = judged(evidence)
    orders = [each.order for each in case.by_number.values()]
    by_lane = {lane: [each for each in orders if each.lane == lane] for lane in "ns"}
    shadow = Counter(_outcome(case, each.number, each.kind) for each in by_lane["s"])
    normal = Counter(_outcome(case, each.number, each.kind) for each in by_lane["n"])
    waits = sorted(_waits(case))
    told = evidence.journals.told
    return Verdict(
        seed=plan.seed,
        protocol=plan.protocol,
        faults=hands.done.total(),
        faults_by_kind=dict(sorted(hands.done.items())),
        faults_not_done=hands.failed,
        normal_sent=len(by_lane["n"]),
        normal_handled=normal["handled"],
        normal_failed=normal["dlq"],
        normal_repeated=_repeated(case, "n"),
        normal_lost=normal["lost"],
        shadow_sent=len(by_lane["s"]),
        shadow_ended=shadow.total() - shadow["lost"],
        shadow_outcomes=dict(shadow),
        shadow_repeated=_repeated(case, "s"),
        shadow_lost=shadow["lost"],
        not_acknowledged=len(hands.load.sent) - len(evidence.acked),
        written_twice=len(evidence.log) - len(orders),
        worst_wait_s=round(waits[-1], 2) if waits else 0.0,
        median_wait_s=round(waits[len(waits) // 2], 4) if waits else 0.0,
        rebalances=sum(each.what == "rebalance" for each in told),
        commits_failed=dict(Counter(each.name for each in told if each.what == "commit-failed")),
        exits={str(code): count for code, count in Counter(hands.fleet.exits).items()},
        violations=[str(each) for each in violations],
        seconds=round(seconds, 1),
    )


def _outcome(case: Case, number: int, kind: Kind) -> str:
    if kind is Kind.EXPIRED:
        return "expired"
    return min(case.outcomes(number), default="lost")


def _repeated(case: Case, lane: str) -> int:
    numbers = [each.number for each in case.handled if each.lane == lane]
    return len(numbers) - len(set(numbers))


def _waits(case: Case) -> list[float]:
    return [
        (first.at_ns - acked.at_ns) / 1e9
        for number, first in case.first.items()
        if first.lane == "n" and (acked := case.evidence.acked.get(number)) is not None
    ]


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the table of all seeds, and their sums where there is more than one."""
    rows = [[str(getattr(each, name)) for name in COLUMNS] for each in verdicts]
    if len(verdicts) > 1:
        rows.append(_sums(verdicts))
    widths = [max(map(len, column)) for column in zip(COLUMNS.values(), *rows, strict=True)]
    lines = [[*COLUMNS.values()], *rows]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _sums(verdicts: Sequence[Verdict]) -> list[str]:
    def of(name: str) -> str:
        if name in {"seed", "protocol"}:
            return "all" if name == "seed" else ""
        if name == "verdict":
            return "FAILED" if any(each.violations for each in verdicts) else "held"
        values = [getattr(each, name) for each in verdicts]
        return str(max(values) if name == "worst_wait_s" else round(sum(values), 1))

    return [of(name) for name in COLUMNS]
