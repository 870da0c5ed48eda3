"""Breakers of many shadow processes that open together, on a real Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from shadowstream.config.model import BreakerRule, FleetSettings
from shadowstream.events import Event, Listeners, Outcome, Transition
from shadowstream.gate import Gates
from tests.lanes import lane_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from containers.redis import RedisContainer

OPEN_S = 2.0
RULE = BreakerRule(window=4, min_calls=4, open_for_s=OPEN_S, half_open=1, fleet=True)


class Member:
    """One process's gates, and what was heard of its breaker."""

    def __init__(self, fleet: FleetSettings, rule: BreakerRule = RULE) -> None:
        self.heard: list[Transition] = []
        self.gates = Gates(lane_of(fleet=fleet, breakers={"claim": rule}), Listeners([self]))
        self.gate = self.gates.gate("claim")

    def on(self, event: Event) -> None:
        if isinstance(event, Transition):
            self.heard.append(event)

    def call(self, outcome: Outcome = Outcome.HANDLED) -> bool:
        ticket = self.gate.enter(time.monotonic())
        self.gate.leave(ticket, outcome, time.monotonic())
        return ticket.admitted

    def break_(self) -> None:
        for _ in range(4):
            self.call(Outcome.FAILED)


@pytest.fixture
def fleet(redis_url: str, request: pytest.FixtureRequest) -> FleetSettings:
    return FleetSettings(request.node.name[:60], redis_url)


@pytest.fixture
def member(fleet: FleetSettings) -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def make(rule: BreakerRule = RULE) -> Member:
        made.append(Member(fleet, rule))
        return made[-1]

    yield make
    for each in made:
        each.gates.close()


def test_what_one_process_has_found_out_opens_the_breakers_of_all_for_the_same_time(member) -> None:
    first, second = member(), member()
    until(lambda: second.gates._clerk.members == 2)
    began = time.monotonic()
    first.break_()
    until(lambda: not second.call())
    assert [each.reason for each in second.heard] == ["fleet"]
    assert time.monotonic() - began < 1.0
    until(second.call)
    assert OPEN_S - 0.1 <= time.monotonic() - began < OPEN_S + 1.0
    assert [each.after for each in second.heard] == ["open", "half-open", "closed"]
    assert [each.reason for each in first.heard] == ["failure_rate"], "it was not opened again by its own word"


def test_each_closes_by_its_own_trials_and_one_that_fails_opens_all_anew(member) -> None:
    first, second = member(), member()
    until(lambda: second.gates._clerk.members == 2)
    first.break_()
    until(lambda: not second.call())
    until(second.call)
    until(lambda: first.gate.enter(time.monotonic()).admitted and bool(first.heard))
    # The trial was let in above, and never came back in order; the next one fails.
    assert first.heard[-1].after == "half-open"
    first.gates.circuit("claim").close()
    first.break_()
    until(lambda: not second.call())


def test_a_rule_that_does_not_say_so_is_each_process_s_own(member, fleet) -> None:
    rule = BreakerRule(window=4, min_calls=4, open_for_s=OPEN_S)
    first, own, last = member(), member(rule), member()
    first.break_()
    until(lambda: not last.call())
    assert own.call()


def test_who_has_opened_without_redis_says_it_when_redis_is_back(own_redis: RedisContainer) -> None:
    fleet = FleetSettings("away", own_redis.url)
    first, second = Member(fleet, BreakerRule(window=4, min_calls=4, open_for_s=60.0, fleet=True)), Member(fleet)
    try:
        until(lambda: second.gates._clerk.members == 2)
        server = Redis.from_url(own_redis.url)
        server.client_pause(1500, all=True)
        first.break_()
        assert not first.call()
        until(lambda: first.gates._clerk.away)
        until(lambda: not second.call())
        server.close()
    finally:
        first.gates.close()
        second.gates.close()
