"""Listens to events and shows them to Prometheus.

Traps:

* The run id is never a label: every stress test would leave its series behind for good.
* Names past the cap share the label ``_other``. What is counted is added up there; a gate's level is left out, as one
  gauge cannot show many gates (guarded by ``test_names_past_the_cap_share_one_label``).
* Cancelled messages are read again, so they are not counted: the outcomes add up to what was read.
* `PrometheusHook.on` is called on the normal path. Its lock is held for the few additions of one event, or for one copy
  of the numbers when scraped; a scrape formats outside of it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from shadowstream.errors import SetupError

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ImportError as missing:
    raise SetupError(
        "metrics need prometheus_client, which is not installed; run `pip install 'shadowstream[metrics]'`"
    ) from missing

from shadowstream.events import (
    Called,
    Carried,
    CommitFailed,
    Configured,
    CopyFailed,
    Crossed,
    GateLevel,
    Guarding,
    HotKeys,
    Lagging,
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
from shadowstream.metrics.serving import MetricsServer
from shadowstream.metrics.tables import OTHER, Names, Table, Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Metric

    from shadowstream.events import Event

__all__ = ["MetricsServer", "PrometheusHook", "serve"]

log = logging.getLogger("shadowstream.metrics")

METRICS_OFF = "metrics_off"

BREAKER_STATES = ("closed", "half-open", "open")
"""A breaker's states; the gauge shows the position."""

CROSSING = ("lane", "wire", "way", "verdict", "reason")

NEAR_MISS = "near_miss"
"""The one reason that quarantines nothing: the message is handled as normal."""

MAX_REASONS = 100
MAX_LAG_ROWS = 10_000


class PartitionRows:
    """A gauge with a row for each partition, and one row in which the partitions beyond the bound share."""

    def __init__(self, table: Table, topics: Names) -> None:
        self._table = table
        self._topics = topics
        self._hidden: dict[tuple[str, str, str], int] = {}

    def put(self, lane: str, topic: str, partition: int, messages: int) -> None:
        """Show a partition's number, as last announced."""
        row = (lane, self._topics.label(topic), str(partition))
        if row[1] != OTHER and (row in self._table or len(self._table) < MAX_LAG_ROWS):
            self._table.put(row, messages)
            return
        hidden = (lane, topic, str(partition))
        self._table.add((lane, OTHER, OTHER), messages - self._hidden.get(hidden, 0))
        self._hidden[hidden] = messages

    def drop(self, lane: str, topic: str, partition: int) -> None:
        """Show a partition no longer."""
        row = (lane, topic, str(partition))
        self._table.drop(row)
        if row in self._hidden:
            self._table.add((lane, OTHER, OTHER), -self._hidden.pop(row))


class PrometheusHook:
    """Listens to events and keeps their numbers in a registry of its own."""

    def __init__(self, *, max_topics: int = 1000, max_commands: int = 1000) -> None:
        self._lock = threading.Lock()
        self._topics = Names("topic", max_topics)
        self._commands = Names("command", max_commands)
        self._reasons = Names("reason", MAX_REASONS)
        self._tables: list[Table] = []
        self._add_message_tables()
        self._add_gate_tables()
        self._add_lane_tables()
        self._shown: Mapping[type[Event], Callable[[str, Any], None]] = {
            Called: self._on_called,
            Carried: self._on_carried,
            Configured: self._on_configured,
            CommitFailed: lambda lane, _: self._commit_failures.add((lane,), 1),
            CopyFailed: lambda lane, event: self._copy_failures.add((lane, self._topics.label(event.topic)), 1),
            Crossed: self._on_crossed,
            GateLevel: self._on_level,
            Guarding: self._on_guarding,
            HotKeys: self._on_hot_keys,
            Lagging: lambda lane, event: self._lag.put(lane, event.topic, event.partition, event.messages),
            Overdue: lambda lane, event: self._overdue.add((lane, self._topics.label(event.topic)), 1),
            OverdueCalls: self._on_overdue_calls,
            Produced: self._on_produced,
            Rebalanced: self._on_rebalanced,
            ShadowOff: lambda lane, _: self._shadow_off.put((lane,), 1),
            Transition: self._on_transition,
            Troubled: lambda lane, _: self._client_errors.add((lane,), 1),
            Uncovered: lambda lane, event: self._uncovered.put(lane, event.topic, event.partition, event.messages),
        }
        self.registry = CollectorRegistry()
        """What is scraped; merge it into another exposition or pass it to `serve`."""
        self.registry.register(self)

    def _add_message_tables(self) -> None:
        self._messages = self._counter("messages", "Messages by how they ended.", "lane", "topic", "outcome")
        self._stepped_over = self._counter(
            "stepped_over", "Messages of the other lane, read and left alone.", "lane", "topic"
        )
        self._quarantine = self._counter("quarantine", "Quarantined messages by reason.", "lane", "topic", "reason")
        self._produced = self._counter("produced", "Shadow messages given to a producer.", "lane", "topic")
        self._near_misses = self._counter(
            "near_misses", "Normal messages with a header almost like the mark.", "lane", "topic"
        )
        each = ("lane", "topic", "partition")
        self._lag = PartitionRows(
            self._gauge("lag", "Messages between a cursor and the end of its partition.", *each), self._topics
        )
        self._uncovered = PartitionRows(
            self._gauge("uncovered", "Finished messages that a crash would repeat now.", *each), self._topics
        )
        self._copy_failures = self._counter(
            "copy_failures", "Copies (parked, quarantined, dead-lettered) that were not delivered.", "lane", "topic"
        )

    def _add_gate_tables(self) -> None:
        self._seconds = Timings(
            "shadowstream_handler_seconds", "How long each handler's, or guarded, call took.", ("lane", "command")
        )
        self._calls = self._counter("calls", "Guarded calls by how they ended.", "lane", "command", "outcome")
        self._decisions = self._counter("gate_decisions", "What the gate decided.", "lane", "command", "verdict")
        self._breaker = self._gauge("breaker_state", "0 closed, 1 half-open, 2 open.", "lane", "command")
        self._transitions = self._counter(
            "breaker_transitions", "How often the breaker went to a state.", "lane", "command", "to"
        )
        self._tokens = self._gauge("limiter_tokens", "Messages the hard limit would admit at once.", "lane", "command")
        self._in_flight = self._gauge("in_flight", "Handler calls under way.", "lane", "command")
        self._guard = self._gauge("guard_level", "What the guard leaves of rate and concurrency, 0 to 1.", "lane")
        self._strain = self._gauge("guard_strain", "Normal's worst signal, as a share of its objective.", "lane")
        self._latched = self._gauge("guard_latched", "1 while the guard waits for somebody to look.", "lane")
        self._hot_keys = self._gauge(
            "hot_keys", "Decisions of the last second on the keys asked for most.", "lane", "command", "key", "value"
        )
        self._overdue = self._counter("overdue", "Calls of sync handlers that outlived their timeout.", "lane", "topic")
        self._overdue_calls = self._gauge(
            "overdue_calls", "Calls of sync handlers that are past their timeout now.", "lane", "topic"
        )

    def _add_lane_tables(self) -> None:
        self._commit_failures = self._counter("commit_failures", "Commits that were refused.", "lane")
        self._rebalances = self._counter("rebalances", "How often partitions came or went.", "lane", "change")
        self._client_errors = self._counter("client_errors", "Errors the Kafka client survived.", "lane")
        self._crossings = self._counter(
            "crossings", "Requests and calls over other wires that are not plainly normal.", *CROSSING
        )
        self._config = self._gauge("config_info", "The configuration that is gone by.", "lane", "version")
        self._config_number = self._gauge("config_number", "Configurations gone by since the start.", "lane")
        self._config_refused = self._counter("config_refused", "Configurations that were found wrong.", "lane")
        self._shadow_off = self._gauge("shadow_off", "1 once the shadow lane was said not to run.", "lane")
        self._shadow_off.put((Lane.SHADOW.value,), 0)

    def _counter(self, name: str, text: str, *labels: str) -> Table:
        self._tables.append(Table(CounterMetricFamily, f"shadowstream_{name}", text, labels))
        return self._tables[-1]

    def _gauge(self, name: str, text: str, *labels: str) -> Table:
        self._tables.append(Table(GaugeMetricFamily, f"shadowstream_{name}", text, labels))
        return self._tables[-1]

    def on(self, event: Event) -> None:
        """Count one fact; facts unknown to this version are left alone."""
        show = self._shown.get(type(event))
        if show is not None:
            with self._lock:
                show(event.lane.value, event)

    def collect(self) -> Iterator[Metric]:
        """Give the numbers as they are now; the registry calls this on each scrape."""
        with self._lock:
            tables = [(table, table.copied()) for table in self._tables]
            seconds = self._seconds.copied()
        for table, rows in tables:
            yield table.family(rows)
        yield self._seconds.family(seconds)

    def _on_carried(self, lane: str, event: Carried) -> None:
        topic = self._topics.label(event.topic)
        for outcome, count in event.outcomes.items():
            if outcome is not Outcome.CANCELLED:
                self._messages.add((lane, topic, outcome.value), count)
        if event.stepped_over:
            self._stepped_over.add((lane, topic), event.stepped_over)
        for reason, count in event.reasons.items():
            if reason == NEAR_MISS:
                self._near_misses.add((lane, topic), count)
            else:
                self._quarantine.add((lane, topic, self._reasons.label(reason)), count)
        self._on_calls(lane, event)

    def _on_produced(self, lane: str, event: Produced) -> None:
        for topic, count in event.topics.items():
            self._produced.add((lane, self._topics.label(topic)), count)

    def _on_called(self, lane: str, event: Called) -> None:
        command = self._commands.label(event.command)
        for outcome, count in event.outcomes.items():
            self._calls.add((lane, command, outcome.value), count)
        self._on_calls(lane, event)

    def _on_calls(self, lane: str, event: Carried | Called) -> None:
        """Count what a command's gate decided, and how long its calls took, whoever asked."""
        command = self._commands.label(event.command)
        for verdict, count in event.verdicts.items():
            self._decisions.add((lane, command, verdict), count)
        if event.seconds:
            self._seconds.observe((lane, command), event.seconds)

    def _on_crossed(self, lane: str, event: Crossed) -> None:
        reason = self._reasons.label(event.reason) if event.reason else ""
        self._crossings.add((lane, event.wire, event.way, event.verdict, reason), 1)

    def _on_level(self, lane: str, event: GateLevel) -> None:
        row = (lane, self._commands.label(event.command))
        if row[1] == OTHER:
            return
        self._in_flight.put(row, event.in_flight)
        # A live change of the settings can take a limit or a breaker away: its last number must not stay.
        if event.tokens is None:
            self._tokens.drop(row)
        else:
            self._tokens.put(row, event.tokens)
        if event.breaker in BREAKER_STATES:
            self._breaker.put(row, BREAKER_STATES.index(event.breaker))
        else:
            self._breaker.drop(row)

    def _on_hot_keys(self, lane: str, event: HotKeys) -> None:
        row = (lane, self._commands.label(event.command))
        if row[1] == OTHER:
            return
        # What was hot a second ago would stay for ever, a series for each value there ever was.
        for each in self._hot_keys.copied():
            if each[:2] == row:
                self._hot_keys.drop(each)
        for key, value, count in event.keys:
            self._hot_keys.put((*row, key, value), count)

    def _on_guarding(self, lane: str, event: Guarding) -> None:
        self._guard.put((lane,), event.level)
        self._strain.put((lane,), event.strain)
        self._latched.put((lane,), event.latched)

    def _on_configured(self, lane: str, event: Configured) -> None:
        if not event.taken:
            self._config_refused.add((lane,), 1)
            return
        for row in self._config.copied():
            if row[0] == lane:
                self._config.drop(row)
        self._config.put((lane, event.version), 1)
        self._config_number.put((lane,), event.number)

    def _on_overdue_calls(self, lane: str, event: OverdueCalls) -> None:
        row = (lane, self._topics.label(event.topic))
        # One gauge cannot show many topics.
        if row[1] != OTHER:
            self._overdue_calls.put(row, event.calls)

    def _on_transition(self, lane: str, event: Transition) -> None:
        row = (lane, self._commands.label(event.command))
        if event.after not in BREAKER_STATES:
            self._transitions.add((*row, OTHER), 1)
            return
        self._transitions.add((*row, event.after), 1)
        if row[1] != OTHER:
            self._breaker.put(row, BREAKER_STATES.index(event.after))

    def _on_rebalanced(self, lane: str, event: Rebalanced) -> None:
        self._rebalances.add((lane, event.change), 1)
        if event.change == "assigned":
            return
        # Somebody else reads these partitions now; our last word on them would be shown for ever.
        for topic, partition in event.partitions:
            self._lag.drop(lane, topic, partition)
            self._uncovered.drop(lane, topic, partition)


def serve(hook: PrometheusHook, port: int, address: str = "0.0.0.0") -> MetricsServer | None:  # noqa: S104 - see below
    """Let the hook be scraped at ``http://address:port/metrics``; port 0 takes any free one.

    All interfaces by default: who sets a port wants it scraped, and Prometheus runs on another host or in another
    container, where a loopback default would look like a dead worker. What it shows is names and numbers, never a
    message; pass ``127.0.0.1`` where a sidecar scrapes.

    A port that cannot be had never stops a worker: it is logged as an error with the cure, and None is returned.
    """
    try:
        return MetricsServer(hook.registry, address, port)
    except (OSError, OverflowError) as error:
        log.error(  # noqa: TRY400 - the cure is the message; a stack trace of bind() would bury it
            "%s address=%s port=%d error=%s: the worker runs on without metrics; free the port or set another "
            "metrics_port",
            METRICS_OFF,
            address,
            port,
            error,
        )
        return None


def watched(port: int | None, address: str = "0.0.0.0") -> list[PrometheusHook]:  # noqa: S104 - as `serve`
    """Return who counts a lane's events and is scraped at ``port``; without a port nobody does."""
    if port is None:
        return []
    hook = PrometheusHook()
    serve(hook, port, address)
    return [hook]
