"""A process's part of a limit is that of the partitions that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException

from shadowstream.config.model import RateRule
from shadowstream.events import Listeners
from shadowstream.gate import Gates
from shadowstream.kafka.worker.portions import LATER_S, TOTALS_S, Portions
from tests.lanes import lane_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Process:
    """A process that reads some partitions of topics that have some."""

    totals: dict[str, int] = field(default_factory=lambda: {"t": 4})
    mine: list[tuple[str, int]] = field(default_factory=list)
    topics: Mapping[str, list[str]] = field(default_factory=lambda: {"claim": ["t"]})
    now: float = 100.0
    told: list[Mapping[str, float]] = field(default_factory=list)
    asked: int = 0
    fails: bool = False

    def __post_init__(self) -> None:
        self.portions = Portions(
            self.topics, lambda: self.mine, self.ask, lambda parts, _: self.told.append(parts), lambda: self.now
        )

    def ask(self) -> Mapping[str, int]:
        self.asked += 1
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return dict(self.totals)

    def read(self, *partitions: int, topic: str = "t") -> None:
        self.mine = [(topic, each) for each in partitions]

    def look(self, later_s: float = 0.0) -> Mapping[str, float]:
        self.now += later_s
        self.portions.look()
        return self.told[-1] if self.told else {}

    def settle(self) -> Mapping[str, float]:
        self.look()
        return self.look(LATER_S)


def test_the_part_is_that_of_the_partitions_that_are_read() -> None:
    process = Process()
    assert process.settle() == {}, "nothing is read, nothing is gone by"
    process.read(0)
    assert process.settle() == {"claim": 0.25}
    process.read(0, 1, 2, 3)
    assert process.settle() == {"claim": 1.0}


def test_less_is_gone_by_at_once_and_more_only_after_the_others_have_noticed() -> None:
    process = Process()
    process.read(0, 1)
    process.settle()
    process.read(0)
    assert process.look() == {"claim": 0.25}
    process.read(0, 1, 2)
    assert process.look() == {"claim": 0.25}
    assert process.look(LATER_S - 0.1) == {"claim": 0.25}
    assert process.look(0.1) == {"claim": 0.75}


def test_what_came_and_went_again_meanwhile_is_not_gone_by() -> None:
    process = Process()
    process.read(0)
    process.settle()
    process.read(0, 1, 2, 3)
    process.look()
    process.read(0, 1)
    process.look(1.0)
    process.read(0, 1, 2, 3)
    assert process.look(LATER_S) == {"claim": 0.5}, "for as long as that there were two"


def test_a_command_of_two_topics_goes_by_the_partitions_of_both() -> None:
    process = Process({"t": 3, "u": 1}, topics={"claim": ["t", "u"], "use": ["u"]})
    process.read(0, topic="u")
    assert process.settle() == {"claim": 0.25, "use": 1.0}


def test_partitions_that_are_added_are_asked_for_when_one_is_read_and_from_time_to_time() -> None:
    process = Process()
    process.read(0, 1, 2, 3)
    process.settle()
    process.totals["t"] = 8
    assert process.look() == {"claim": 1.0}
    process.read(0, 1, 2, 3, 7)
    assert process.look() == {"claim": 0.625}
    process.totals["t"] = 10
    assert process.look(TOTALS_S) == {"claim": 0.5}


def test_when_nobody_says_how_many_there_are_parts_stay_what_they_are_and_begin_with_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Process(fails=True)
    process.read(0)
    assert process.settle() == {}
    process.fails = False
    assert process.settle() == {"claim": 0.25}
    process.fails = True
    assert process.look(TOTALS_S) == {"claim": 0.25}
    assert "partitions_unknown" in caplog.text


def test_nothing_is_told_while_nothing_changes() -> None:
    process = Process()
    process.read(0)
    process.settle()
    for _ in range(10):
        process.look(0.5)
    assert len(process.told) == 1
    assert process.asked == 1


def test_a_thread_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowstream.kafka.worker.portions.LATER_S", 0.0)
    process = Process()
    process.read(0)
    with process.portions:
        until(lambda: process.told)


def test_the_gates_go_by_the_part_and_by_nothing_before_it_is_known() -> None:
    rule = RateRule(hard_per_s=100.0, burst=10, by_partitions=True)
    gates = Gates(lane_of(rates={"claim": rule, "use": RateRule(hard_per_s=100.0, burst=10)}), Listeners())

    def admitted(begin: float, seconds: float, command: str = "claim") -> int:
        gate = gates.gate(command)
        return sum(gate.enter(begin + each / 1000).admitted for each in range(int(seconds * 1000)))

    assert admitted(0.0, 1.0) == 0
    gates.portions({"claim": 0.25, "use": 0.25}, 1.0)
    assert admitted(1.0, 2.0) == pytest.approx(50, abs=4)
    gates.portions({"claim": 1.0}, 3.0)
    assert admitted(3.0, 2.0) == pytest.approx(200, abs=12)
    gates.portions({"claim": 0.0}, 5.0)
    assert admitted(5.0, 1.0) == 0
    assert admitted(6.0, 1.0, "use") == pytest.approx(110, abs=2), "whose rule says nothing of partitions"


def test_parts_that_were_known_before_a_live_change_of_the_rate_are_gone_by_after_it() -> None:
    rule = RateRule(hard_per_s=100.0, burst=1, by_partitions=True)
    gates = Gates(lane_of(rates={"claim": rule}), Listeners())
    gates.portions({"claim": 0.5}, 0.0)
    gates.adopt(lane_of(), 0.0)
    gates.adopt(lane_of(rates={"claim": RateRule(hard_per_s=1000.0, burst=1, by_partitions=True)}), 0.0)
    gate = gates.gate("claim")
    assert sum(gate.enter(each / 1000).admitted for each in range(2000)) == pytest.approx(1000, abs=10)
