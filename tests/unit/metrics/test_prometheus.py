"""What each event looks like in the exposition text."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

from shadowstream.errors import SetupError
from shadowstream.events import (
    Carried,
    CommitFailed,
    CopyFailed,
    Crossed,
    Event,
    GateLevel,
    HotKeys,
    Lagging,
    Listeners,
    Outcome,
    Overdue,
    OverdueCalls,
    Produced,
    Rebalanced,
    ShadowOff,
    Transition,
    Troubled,
    Uncovered,
)
from shadowstream.lane import Lane
from shadowstream.metrics import PrometheusHook
from shadowstream.metrics.prometheus import MAX_LAG_ROWS
from shadowstream.metrics.tables import BUCKETS_S, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC = "voucher.claimed"
COMMAND = "voucher.dispatch"


def carried(
    topic: str = TOPIC,
    command: str = COMMAND,
    *,
    lane: Lane = Lane.SHADOW,
    outcomes: Mapping[Outcome, int] | None = None,
    reasons: Mapping[str, int] | None = None,
    seconds: tuple[float, ...] = (),
) -> Carried:
    return Carried(
        lane=lane,
        topic=topic,
        partition=0,
        command=command,
        outcomes={Outcome.HANDLED: 1} if outcomes is None else outcomes,
        stepped_over=5,
        verdicts={"admit": 7, "wait": 2},
        reasons=reasons or {},
        seconds=seconds,
    )


def lines(*events: Event, hook: PrometheusHook | None = None) -> list[str]:
    hook = hook or PrometheusHook()
    for event in events:
        hook.on(event)
    return generate_latest(hook.registry).decode().splitlines()


LANE = 'lane="shadow"'
IN_TOPIC = f'{LANE},topic="{TOPIC}"'
OF_COMMAND = f'command="{COMMAND}",{LANE}'
LEVEL = GateLevel(Lane.SHADOW, COMMAND, breaker="half-open", tokens=12.5, in_flight=3)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            carried(outcomes={Outcome.PARKED: 4}),
            f'shadowstream_messages_total{{{LANE},outcome="parked",topic="{TOPIC}"}} 4.0',
        ),
        (carried(), f"shadowstream_stepped_over_total{{{IN_TOPIC}}} 5.0"),
        (carried(), f'shadowstream_gate_decisions_total{{{OF_COMMAND},verdict="admit"}} 7.0'),
        (carried(), f'shadowstream_gate_decisions_total{{{OF_COMMAND},verdict="wait"}} 2.0'),
        (
            carried(reasons={"bad_signature": 6}),
            f'shadowstream_quarantine_total{{{LANE},reason="bad_signature",topic="{TOPIC}"}} 6.0',
        ),
        (carried(reasons={"near_miss": 8}), f"shadowstream_near_misses_total{{{IN_TOPIC}}} 8.0"),
        (LEVEL, f"shadowstream_breaker_state{{{OF_COMMAND}}} 1.0"),
        (LEVEL, f"shadowstream_limiter_tokens{{{OF_COMMAND}}} 12.5"),
        (LEVEL, f"shadowstream_in_flight{{{OF_COMMAND}}} 3.0"),
        (
            Transition(Lane.SHADOW, COMMAND, "closed", "open", "failure_rate"),
            f'shadowstream_breaker_transitions_total{{{OF_COMMAND},to="open"}} 1.0',
        ),
        (
            Transition(Lane.SHADOW, COMMAND, "closed", "open", "failure_rate"),
            f"shadowstream_breaker_state{{{OF_COMMAND}}} 2.0",
        ),
        (Lagging(Lane.SHADOW, TOPIC, 3, 99), f'shadowstream_lag{{{LANE},partition="3",topic="{TOPIC}"}} 99.0'),
        (Uncovered(Lane.SHADOW, TOPIC, 3, 7), f'shadowstream_uncovered{{{LANE},partition="3",topic="{TOPIC}"}} 7.0'),
        (CommitFailed(Lane.SHADOW, "fenced"), f"shadowstream_commit_failures_total{{{LANE}}} 1.0"),
        (CopyFailed(Lane.SHADOW, TOPIC, "too large"), f"shadowstream_copy_failures_total{{{IN_TOPIC}}} 1.0"),
        (Overdue(Lane.SHADOW, TOPIC, COMMAND, 0, 41), f"shadowstream_overdue_total{{{IN_TOPIC}}} 1.0"),
        (OverdueCalls(Lane.SHADOW, TOPIC, 2), f"shadowstream_overdue_calls{{{IN_TOPIC}}} 2.0"),
        (
            Rebalanced(Lane.SHADOW, "lost", ((TOPIC, 0),)),
            f'shadowstream_rebalances_total{{change="lost",{LANE}}} 1.0',
        ),
        (Troubled(Lane.SHADOW, "all brokers down"), f"shadowstream_client_errors_total{{{LANE}}} 1.0"),
        (Produced(Lane.SHADOW, {TOPIC: 4}), f"shadowstream_produced_total{{{IN_TOPIC}}} 4.0"),
        (
            Crossed(Lane.SHADOW, "http", "in", "refused", "expired"),
            f'shadowstream_crossings_total{{{LANE},reason="expired",verdict="refused",way="in",wire="http"}} 1.0',
        ),
        (ShadowOff(Lane.SHADOW, ("no lease",)), f"shadowstream_shadow_off{{{LANE}}} 1.0"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else str(value).partition("{")[0],
)
def test_each_event_is_shown_as_a_number(event: Event, line: str) -> None:
    assert line in [sorted_labels(shown) for shown in lines(event)]


def sorted_labels(line: str) -> str:
    """Labels in alphabetical order, so that a test does not depend on the order they were declared in."""
    name, brace, rest = line.partition("{")
    if not brace or line.startswith("#"):
        return line
    labels, _, value = rest.rpartition("}")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}"


def value_of(name: str, hook: PrometheusHook, **labels: str) -> float | None:
    return hook.registry.get_sample_value(f"shadowstream_{name}", labels)


def test_a_batch_is_counted_once_per_message_and_batches_add_up() -> None:
    hook = PrometheusHook()
    for _ in range(3):
        hook.on(carried(outcomes={Outcome.HANDLED: 1000, Outcome.FAILED: 2}))
    assert value_of("messages_total", hook, lane="shadow", topic=TOPIC, outcome="handled") == 3000
    assert value_of("messages_total", hook, lane="shadow", topic=TOPIC, outcome="failed") == 6


def test_the_lanes_are_counted_apart() -> None:
    hook = PrometheusHook()
    hook.on(carried(lane=Lane.NORMAL, outcomes={Outcome.HANDLED: 3}))
    hook.on(carried(lane=Lane.SHADOW, outcomes={Outcome.HANDLED: 9}))
    assert value_of("messages_total", hook, lane="normal", topic=TOPIC, outcome="handled") == 3
    assert value_of("messages_total", hook, lane="shadow", topic=TOPIC, outcome="handled") == 9


def test_cancelled_messages_are_not_counted_since_they_are_read_again() -> None:
    assert not [line for line in lines(carried(outcomes={Outcome.CANCELLED: 2})) if "cancelled" in line]


def test_each_handler_call_falls_into_its_bucket() -> None:
    hook = PrometheusHook()
    hook.on(carried(seconds=(0.0001, 0.004, 0.004, 61.0)))
    labels = {"lane": "shadow", "command": COMMAND}
    buckets = {
        le: value_of("handler_seconds_bucket", hook, **labels, le=le) for le in ("0.0001", "0.003", "0.005", "60.0")
    }
    assert buckets == {"0.0001": 1, "0.003": 1, "0.005": 3, "60.0": 3}
    assert value_of("handler_seconds_bucket", hook, **labels, le="+Inf") == 4
    assert value_of("handler_seconds_count", hook, **labels) == 4
    assert value_of("handler_seconds_sum", hook, **labels) == pytest.approx(61.0081)


def test_the_buckets_are_fine_enough_to_read_a_p99() -> None:
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.0001, 60.0)
    assert all(1 < after / before < 1.7 for before, after in pairwise(BUCKETS_S))


def test_shadow_is_shown_as_on_until_it_is_said_to_be_off() -> None:
    assert value_of("shadow_off", PrometheusHook(), lane="shadow") == 0


def test_a_limit_or_breaker_taken_away_leaves_no_last_number_behind() -> None:
    hook = PrometheusHook()
    hook.on(LEVEL)
    hook.on(GateLevel(Lane.SHADOW, COMMAND, breaker="none", tokens=None, in_flight=0))
    assert value_of("breaker_state", hook, lane="shadow", command=COMMAND) is None
    assert value_of("limiter_tokens", hook, lane="shadow", command=COMMAND) is None
    assert value_of("in_flight", hook, lane="shadow", command=COMMAND) == 0


@pytest.mark.parametrize("change", ["revoked", "lost"])
def test_lag_of_a_partition_that_left_is_shown_no_more(change: str) -> None:
    hook = PrometheusHook()
    for partition in (0, 1):
        hook.on(Lagging(Lane.NORMAL, TOPIC, partition, 10))
    hook.on(Rebalanced(Lane.NORMAL, change, ((TOPIC, 0),)))
    assert value_of("lag", hook, lane="normal", topic=TOPIC, partition="0") is None
    assert value_of("lag", hook, lane="normal", topic=TOPIC, partition="1") == 10


def test_a_key_that_is_hot_no_more_leaves_no_series_behind() -> None:
    told = [HotKeys(Lane.SHADOW, "other", (("user", "x", 2),))]
    told += [
        HotKeys(Lane.SHADOW, COMMAND, keys) for keys in ((("user", "a", 9), ("user", "b", 5)), (("user", "b", 7),))
    ]
    assert sorted(line for line in lines(*told) if line.startswith("shadowstream_hot_keys{")) == [
        'shadowstream_hot_keys{command="other",key="user",lane="shadow",value="x"} 2.0',
        f'shadowstream_hot_keys{{command="{COMMAND}",key="user",lane="shadow",value="b"}} 7.0',
    ]


def test_lag_of_a_partition_that_came_stays() -> None:
    hook = PrometheusHook()
    hook.on(Lagging(Lane.NORMAL, TOPIC, 0, 10))
    hook.on(Rebalanced(Lane.NORMAL, "assigned", ((TOPIC, 0),)))
    assert value_of("lag", hook, lane="normal", topic=TOPIC, partition="0") == 10


def test_names_past_the_cap_share_one_label(caplog: pytest.LogCaptureFixture) -> None:
    hook = PrometheusHook(max_topics=2, max_commands=2)
    for number in range(100_000):
        hook.on(carried(f"topic-{number}", f"command-{number}"))
    hook.on(GateLevel(Lane.SHADOW, "command-99", breaker="open", tokens=1, in_flight=1))
    text = "\n".join(lines(hook=hook))
    assert "topic-1" in text
    assert "topic-2" not in text
    assert "command-2" not in text
    assert value_of("messages_total", hook, lane="shadow", topic=OTHER, outcome="handled") == 99_998
    assert value_of("gate_decisions_total", hook, lane="shadow", command=OTHER, verdict="admit") == 99_998 * 7
    assert value_of("in_flight", hook, lane="shadow", command=OTHER) is None
    assert len([record for record in caplog.records if "metrics_names_capped" in record.message]) == 2


def test_lag_past_the_cap_is_added_up() -> None:
    hook = PrometheusHook(max_topics=1)
    for topic, messages in (("a", 1), ("b", 10), ("c", 100), ("b", 20)):
        hook.on(Lagging(Lane.SHADOW, topic, 0, messages))
    assert value_of("lag", hook, lane="shadow", topic=OTHER, partition=OTHER) == 120
    hook.on(Rebalanced(Lane.SHADOW, "revoked", (("c", 0),)))
    assert value_of("lag", hook, lane="shadow", topic=OTHER, partition=OTHER) == 20


def test_one_topic_cannot_have_partitions_without_end() -> None:
    hook = PrometheusHook()
    for partition in range(MAX_LAG_ROWS + 7):
        hook.on(Lagging(Lane.SHADOW, TOPIC, partition, 1))
    assert value_of("lag", hook, lane="shadow", topic=OTHER, partition=OTHER) == 7


def test_reasons_are_capped_too() -> None:
    text = lines(carried(reasons={f"reason-{number}": 1 for number in range(10_000)}))
    assert len([line for line in text if line.startswith("shadowstream_quarantine_total")]) == 101


def test_a_state_nobody_knows_makes_no_label() -> None:
    assert not [line for line in lines(Transition(Lane.SHADOW, COMMAND, "closed", "molten", "?")) if "molten" in line]


def test_an_unknown_event_is_left_alone() -> None:
    assert lines(Event(Lane.NORMAL)) == lines()


def test_the_run_is_never_a_label() -> None:
    assert not [line for line in lines(carried(), LEVEL, Lagging(Lane.SHADOW, TOPIC, 0, 1)) if "run=" in line]


def test_two_hooks_know_nothing_of_each_other() -> None:
    hook, other = PrometheusHook(), PrometheusHook()
    hook.on(carried())
    assert value_of("stepped_over_total", other, lane="shadow", topic=TOPIC) is None


def test_it_is_a_hook_and_loses_no_count_between_threads() -> None:
    hook = PrometheusHook()
    listeners = Listeners([hook])  # mypy agrees that it is a Hook

    def announce() -> None:
        for _ in range(2000):
            listeners.on(carried(seconds=(0.001,)))

    threads = [threading.Thread(target=announce) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        generate_latest(hook.registry)
    assert value_of("messages_total", hook, lane="shadow", topic=TOPIC, outcome="handled") == 8000
    assert value_of("handler_seconds_count", hook, lane="shadow", command=COMMAND) == 8000


@pytest.fixture
def without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("shadowstream.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)


@pytest.mark.usefixtures("without_prometheus_client")
@pytest.mark.parametrize("name", ["PrometheusHook", "serve", "MetricsServer"])
def test_without_prometheus_client_the_error_names_the_cure(name: str) -> None:
    metrics = import_module("shadowstream.metrics")
    with pytest.raises(SetupError, match=r"pip install 'shadowstream\[metrics\]'"):
        getattr(metrics, name)


@pytest.mark.usefixtures("without_prometheus_client")
def test_the_package_itself_imports_without_prometheus_client() -> None:
    metrics = import_module("shadowstream.metrics")
    assert set(dir(metrics)) == set(metrics.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = metrics.nothing
