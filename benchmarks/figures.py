"""The arithmetic of the benchmarks: quantiles, paired ratios, drift, and the rows of the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Paired",
    "Phase",
    "Row",
    "Spread",
    "flood_ratio",
    "hot_bound",
    "interleaved",
    "longest_gap",
    "paired",
    "phase",
    "quantile",
    "spread",
    "zipf",
]

LOW, HIGH = 0.75, 1.33
"""A control outside of these is too noisy: a quarter slower or a third faster for no reason."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some rounds, and how far they lie apart."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    wanted: float | None = None
    """None: recorded, with no target."""
    sense: Literal["at least", "at most"] = "at least"
    spread: Spread | None = None
    """Over the rounds; None when there was one."""
    control: bool = False
    """Whether this is one side against itself: far from 1, the machine was too busy to compare anything."""

    @classmethod
    def of(cls, name: str, spread: Spread, unit: str, wanted: float | None = None, *, at_most: bool = False) -> Row:
        """Return the row of a median over rounds."""
        return cls(name, spread.median, unit, wanted, "at most" if at_most else "at least", spread)

    @classmethod
    def noise(cls, name: str, spread: Spread) -> Row:
        """Return the row of a control."""
        return cls(name, spread.median, "ratio", spread=spread, control=True)

    @property
    def reached(self) -> bool | None:
        """Tell whether the wanted value was reached; None when there is none."""
        if self.wanted is None:
            return None
        return self.value >= self.wanted if self.sense == "at least" else self.value <= self.wanted

    @property
    def noisy(self) -> bool:
        """Tell whether this control says that the machine was too busy."""
        return self.control and self.spread is not None and not LOW < self.spread.low <= self.spread.high < HIGH

    def as_json(self) -> dict[str, object]:
        """Return the row for a JSON file."""
        return {**asdict(self), "reached": self.reached, "noisy": self.noisy}


@dataclass(frozen=True, slots=True)
class Paired:
    """One side against the one measured before and after it."""

    ratio: Spread
    control: Spread
    """Each measurement of the first side against the one before it: what ratio noise alone makes."""
    base: Spread
    other: Spread


@dataclass(frozen=True, slots=True)
class Phase:
    """The latencies of one phase of a run."""

    count: int
    missing: int
    """Sent and never handled; they count with the time they had waited when the run ended."""
    p50_ms: float
    p99_ms: float
    max_ms: float


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed.

    Raises:
        ValueError: there are no values, or the share is not within 0 and 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"quantile {share} of {len(values)} values: it needs a value and a share from 0 to 1")
    ordered = sorted(values)
    # Nearest rank: a latency that really occurred. Rounded first, as 0.99 * 100 is a hair above 99.
    rank = -int(-round(share * len(ordered), 9) // 1)
    return ordered[max(rank, 1) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the lowest and the highest."""
    return Spread(median(values), min(values), max(values))


def paired(bases: Sequence[float], others: Sequence[float]) -> Paired:
    """Compare each of ``others`` with the mean of the bases measured right before and right after it.

    Raises:
        ValueError: there is not exactly one base more than others.
    """
    if len(bases) != len(others) + 1 or not others:
        raise ValueError(f"{len(others)} rounds stand between {len(others) + 1} bases, not {len(bases)}")
    neighbours = list(pairwise(bases))
    return Paired(
        ratio=spread([other / fmean(pair) for other, pair in zip(others, neighbours, strict=True)]),
        control=spread([after / before for before, after in neighbours]),
        base=spread(bases),
        other=spread(others),
    )


def phase(samples: dict[int, int], schedule: range, ended: int) -> Phase:
    """Return the latencies of one phase of an open-loop load.

    ``samples`` maps each handled message's intended send time to the time it was handled, ``schedule`` holds the
    intended times of the phase, ``ended`` is when the run was over; all in nanoseconds of one clock.
    """
    missing = sum(intended not in samples for intended in schedule)
    waits = [(samples.get(intended, ended) - intended) / 1e6 for intended in schedule]
    return Phase(len(waits), missing, quantile(waits, 0.5), quantile(waits, 0.99), max(waits))


def flood_ratio(before: float, during: float, after: float) -> tuple[float, float]:
    """Return a figure under flood against the mean of those around it, and the drift: after against before."""
    return during / fmean((before, after)), after / before


def interleaved(bases: Sequence[float], others: dict[str, Sequence[float]]) -> tuple[dict[str, Spread], Spread | None]:
    """Compare one side with several that took turns between its own: base, x, base, y, base, x, base, y, base.

    Returns the base by each other, of those that never came to 0, and the base by itself, None when it ever did.

    Raises:
        ValueError: there is not exactly one base more than turns of others.
    """
    turns = sum(map(len, others.values()))
    if len(bases) != turns + 1 or not turns:
        raise ValueError(f"{turns} turns stand between {turns + 1} bases, not {len(bases)}")
    around = [fmean(pair) for pair in pairwise(bases)]
    ratios = {
        name: spread([mean / rate for mean, rate in zip(around[place :: len(others)], rates, strict=True)])
        for place, (name, rates) in enumerate(others.items())
        if all(rates)
    }
    control = spread([after / before for before, after in pairwise(bases)]) if all(bases) else None
    return ratios, control


def zipf(keys: int, exponent: float) -> list[float]:
    """Return the shares of so many keys, the hottest first; 0 makes them all alike."""
    weights = [1 / rank**exponent for rank in range(1, keys + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def hot_bound(share: float, handling_s: float) -> float:
    """Return the messages a second that nobody can exceed who handles one of each key at a time."""
    return 1 / (share * handling_s)


def longest_gap(times: Sequence[float], begin: float, end: float) -> float:
    """Return the longest time within begin and end in which nothing happened."""
    within = sorted(time for time in times if begin < time < end)
    return max(after - before for before, after in pairwise([begin, *within, end]))
