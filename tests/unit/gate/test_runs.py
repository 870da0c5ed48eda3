"""Which runs may go on: what was heard is good for a moment, and everything else is a no."""

from __future__ import annotations

import pytest
from confluent_kafka import Message as RawMessage

import shadowstream as ss
from shadowstream.events import Outcome
from shadowstream.gate import OpenGate, Verdict
from shadowstream.gate.fleet import RunGate, Runs
from shadowstream.gate.fleet.runs import GOOD_S
from shadowstream.kafka.message import Batch, Message

RUN = ss.Mark(run="r1")


@pytest.fixture
def runs() -> Runs:
    runs = Runs()
    runs.heard({"r1": 7200.0, "short": 1.0}, 100.0)
    return runs


def test_nothing_goes_on_before_anything_was_heard() -> None:
    assert not Runs().may_go_on("r1", 0.0)
    assert not Runs().may_go_on(None, 0.0)


def test_a_run_goes_on_as_long_as_its_lease_and_what_was_heard_are_good(runs: Runs) -> None:
    assert [runs.may_go_on("r1", now) for now in (100.0, 100.0 + GOOD_S - 0.01, 100.0 + GOOD_S)] == [True, True, False]
    assert [runs.may_go_on("short", now) for now in (100.9, 101.0)] == [True, False]
    assert not runs.may_go_on("other", 100.0)


def test_what_is_heard_next_replaces_all_of_it(runs: Runs) -> None:
    runs.heard({"r2": 60.0}, 101.0)
    assert (runs.may_go_on("r1", 101.0), runs.may_go_on("r2", 101.0)) == (False, True)


def test_a_bare_mark_goes_on_while_any_run_does(runs: Runs) -> None:
    assert runs.may_go_on(None, 100.0)
    runs.heard({}, 100.0)
    assert not runs.may_go_on(None, 100.0)


def test_the_gate_asks_for_the_run_of_a_message_a_batch_or_the_context(runs: Runs) -> None:
    gate = RunGate(OpenGate(), runs, Verdict.PARK)
    raw = RawMessage(topic="t", partition=0, offset=0, value=b"")
    other = ss.Mark(run="other")
    assert gate.enter(100.0, Message(raw, RUN)).admitted
    assert gate.enter(100.0, Batch([Message(raw, RUN)], RUN)).admitted
    refused = gate.enter(100.0, Message(raw, other))
    assert (refused.verdict, refused.by) == (Verdict.PARK, "run")
    assert not gate.enter(100.0, Batch([Message(raw, other)], other)).admitted
    with ss.entered(RUN):
        ticket = gate.enter(100.0, {"user": 7})
        assert ticket.admitted
        gate.leave(ticket, Outcome.HANDLED, 100.0)
    with ss.entered(other):
        assert not gate.enter(100.0).admitted
