"""The worker as users meet it."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeVar

from shadowstream.errors import BrokerError, ConfigError, SetupError, ShadowstreamError
from shadowstream.events import Listeners, ShadowOff
from shadowstream.gate.guard import Board, Guard, Pulse
from shadowstream.kafka.clients import QUIET, logger_of, missing_topics, producer_of, usable
from shadowstream.kafka.outlets import retry_topic, side_topics
from shadowstream.kafka.worker.assembly import Registration, assemble
from shadowstream.kafka.worker.beginning import seed
from shadowstream.kafka.worker.live import portions_of, watcher_of
from shadowstream.kafka.worker.supervisor import (
    Supervisor,
    adopted_lane,
    collect_less_often,
    on_signals,
    pair_of,
    watch_parent,
)
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from shadowstream.config import LaneSettings, Settings
    from shadowstream.events import Hook
    from shadowstream.kafka.cursor import Cursor
    from shadowstream.kafka.engine.binding import Handler
    from shadowstream.kafka.worker.assembly import Settle

    HookFactory = Callable[[LaneSettings], Iterable[Hook]]

__all__ = ["Worker"]

log = logger_of("worker")

Decorated = TypeVar("Decorated", bound="Handler")
Lanes = Literal["both", "normal", "shadow"]
PREFLIGHT_S = 10.0
SETUP_EXIT, BROKER_EXIT, HUNG_EXIT = 2, 3, 4


def _no_hooks(_: LaneSettings) -> Iterable[Hook]:
    return ()


class Worker:
    """Consumes topics in both lanes, each behind its own gates.

    ``hooks`` is called once in each lane's process with the lane's settings, and returns who listens to its facts.

    Raises:
        SetupError: ``lanes`` is not ``both``, ``normal`` or ``shadow``.
    """

    def __init__(self, settings: Settings, lanes: Lanes = "both", *, hooks: HookFactory = _no_hooks) -> None:
        self.settings = settings
        self._lanes = _lanes_of(lanes)
        self._hooks = hooks
        self._registrations: dict[str, Registration] = {}
        self._running: dict[Lane, tuple[Cursor, threading.Thread]] = {}
        self._shadow_off = tuple(map(str, settings.shadow_problems))
        """Why the shadow lane cannot run; empty while it can."""

    def handles(
        self, topic: str, *, command: str | None = None, batch: int | None = None, settle: Settle = "on_return"
    ) -> Callable[[Decorated], Decorated]:
        """Register the decorated function, sync or async, for a topic.

        ``command`` names its rules under ``rate_limit`` and ``resilience``; without it the topic's name does. With
        ``batch`` the handler is given a list of up to so many messages, of one partition and one run. With
        ``settle="by_hand"`` a message is done when ``message.ack()`` says so, from any thread and at any time;
        ``message.nack(delay_s)`` asks for it again and ``message.park()`` sets a shadow message aside.

        Raises:
            SetupError: the topic is not configured, or has a handler already, or the two ways to settle are mixed.
        """
        _check_ways(topic, batch, settle, transactional=self.settings.transactional(topic))
        if topic in self._registrations:
            raise SetupError(f"topic {topic!r} has a handler already: {self._registrations[topic].handler}")

        def register(handler: Decorated) -> Decorated:
            self._registrations[topic] = Registration(topic, command or topic, handler, batch, settle)
            return handler

        return register

    def run(self, lanes: Lanes | None = None, *, fail_fast: bool = False, hooks: HookFactory = _no_hooks) -> None:
        """Run until SIGTERM or Ctrl-C; both lanes mean one process each.

        ``lanes`` overrides what the worker was built with, ``hooks`` are used if it was built with none. With
        ``fail_fast`` a cluster that cannot be reached or lacks a topic ends it instead of being waited for.

        Raises:
            SystemExit: with 2 after a wrong set-up, 3 when the brokers failed us, 4 when a handler outlived the drain.
        """
        self._lanes = _lanes_of(adopted_lane() or lanes) or self._lanes
        self._hooks = hooks if self._hooks is _no_hooks else self._hooks
        try:
            self._check(fail_fast=fail_fast)
            running = self._lanes_to_run()
            code = self._supervise(running) if len(running) > 1 else self._run_here(running[0])
        except ShadowstreamError as error:
            log.error("worker_stopped error=%s", error)  # noqa: TRY400 - a clear line, not a traceback
            code = BROKER_EXIT if isinstance(error, BrokerError) else SETUP_EXIT
        if code:
            sys.exit(code)

    def start(self) -> Self:
        """Start the lanes as threads of this process, for tests and embedding; `stop` ends them.

        Raises:
            SetupError: no topic has a handler, or a lane is off.
        """
        self._check(fail_fast=False)
        lanes = self._lanes_to_run()
        if len(lanes) > 1:
            seed(self.settings, [each.topic for each in self._registrations.values()])
        for lane in lanes:
            cursor, around = self._assembled(lane)
            thread = threading.Thread(target=_run, args=(cursor, around), name=f"cursor-{lane}", daemon=True)
            self._running[lane] = cursor, thread
            thread.start()
        return self

    def stop(self) -> None:
        """Drain, commit and close what `start` started."""
        for cursor, _ in self._running.values():
            cursor.stop()
        for _, thread in self._running.values():
            thread.join()
        self._running.clear()

    def __enter__(self) -> Self:
        """Start the lanes as threads."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self.stop()

    def _check(self, *, fail_fast: bool) -> None:
        if not self._registrations:
            raise SetupError('no topic has a handler: decorate a function with @worker.handles("TOPIC")')
        if not fail_fast:
            return
        client = producer_of(self.settings.normal, **QUIET)
        if missing := missing_topics(client, self.topics(), PREFLIGHT_S):
            raise BrokerError(f"topics do not exist: {', '.join(missing)}; create them, or run without --fail-fast")

    @property
    def commands(self) -> frozenset[str]:
        """The commands whose rules the handlers go by."""
        return frozenset(each.command for each in self._registrations.values())

    def topics(self) -> list[str]:
        """Return the Kafka topics that the handlers read, retry topics among them, and that copies are written to."""
        names: set[str] = set()
        for lane in self._lanes:
            if lane is Lane.SHADOW and self.settings.shadow is None:
                continue
            for registration in self._registrations.values():
                topic = self.settings.topic(registration.topic, lane)
                names |= {topic.source, *side_topics(topic.name, lane).values()}
                names |= {retry_topic(topic.name, lane)} if topic.rounds else set()
        return sorted(names)

    def _lanes_to_run(self) -> list[Lane]:
        """Return the lanes that can run: where something is wrong with shadow alone, normal runs without it.

        A lane that runs alone is not looked at here: whoever puts it together says the same of it.
        """
        if len(self._lanes) == 1:
            return self._lanes
        usable(self.settings.normal)
        try:
            usable(self.settings.of(Lane.SHADOW))
        except (ConfigError, SetupError) as error:
            self._shadow_off = tuple(map(str, self.settings.shadow_problems)) or (str(error),)
        else:
            return self._lanes
        for reason in self._shadow_off:
            log.error("shadow_off %s", reason)
        return [Lane.NORMAL]

    def _supervise(self, lanes: list[Lane]) -> int:
        seed(self.settings, [each.topic for each in self._registrations.values()])
        drain_s = max(self.settings.of(lane).worker.drain_s for lane in lanes)
        return Supervisor(lanes, drain_s).run()

    def _run_here(self, lane: Lane) -> int:
        """Run one lane in this process, its cursor in the main thread."""
        os.nice(self.settings.of(lane).worker.nice)
        collect_less_often()
        cursor, around = self._assembled(lane)
        watch_parent(cursor.stop)
        answers = iter((cursor.stop, _end_now))

        def signalled() -> None:
            next(answers, _end_now)()

        with on_signals(signalled):
            _run(cursor, around)
        if cursor.hung:
            log.error("handlers_hung lane=%s: their messages are not committed and will be read again", lane)
            _end_now()
        return 0

    def _board(self, lane: Lane) -> Board | None:
        """Return where normal's vitals are written down; None without a guard, or if normal has no place for them."""
        if self.settings.of(lane).guard is None:
            return None
        try:
            return Board.of(self.settings.service, pair_of(self._lanes))
        except SetupError as error:
            if lane is Lane.SHADOW:
                raise
            # Normal runs without: shadow sees nothing of it, and stands still.
            log.error("vitals_not_written %s", error)  # noqa: TRY400 - a clear line, not a traceback
            return None

    def _assembled(self, lane: Lane) -> tuple[Cursor, list[AbstractContextManager[object]]]:
        """Put one lane together; returns its cursor, and what is to be around it while it runs."""
        ours, hooks = self.settings.of(lane), list(self._hooks(self.settings.of(lane)))
        board = self._board(lane)
        pulse = Pulse(board) if board is not None and lane is Lane.NORMAL else None
        listeners = Listeners([*hooks, pulse] if pulse is not None else hooks)
        if self._shadow_off:
            listeners.on(ShadowOff(Lane.SHADOW, self._shadow_off))
        registrations = list(self._registrations.values())
        guard = None
        if board is not None and ours.guard is not None and lane is Lane.SHADOW:
            guard = Guard(ours.guard, board, listeners)
        cursor = assemble(self.settings, lane, registrations, listeners, guard=guard)
        watcher = watcher_of(self.settings, lane, cursor, registrations, listeners)
        portions = portions_of(ours, cursor, registrations) if lane is Lane.SHADOW else None
        return cursor, [each for each in (watcher, pulse, guard, portions) if each is not None]


def _run(cursor: Cursor, around: Iterable[AbstractContextManager[object]]) -> None:
    with ExitStack() as stack:
        for each in around:
            stack.enter_context(each)
        cursor.run()


def _check_ways(topic: str, batch: int | None, settle: str, *, transactional: bool) -> None:
    if settle not in {"on_return", "by_hand"}:
        raise SetupError(f"topic {topic!r}: settle={settle!r}; use 'on_return' or 'by_hand'")
    if batch is not None and batch < 1:
        raise SetupError(f"topic {topic!r}: batch={batch}; use 1 or more")
    if batch is not None and settle == "by_hand":
        raise SetupError(f"topic {topic!r}: a batch is settled when its handler returns; leave batch or settle out")
    if transactional and settle == "by_hand":
        raise SetupError(
            f"topic {topic!r} is transactional: its transaction settles what a handler has returned from; leave settle"
            " out, or write `transactional: false`"
        )


def _lanes_of(name: str | None) -> list[Lane]:
    if name is None:
        return []
    if name not in {"both", "normal", "shadow"}:
        raise SetupError(f"lanes={name!r}: use 'both', 'normal' or 'shadow'")
    return list(Lane) if name == "both" else [Lane(name)]


def _end_now() -> None:
    """End without waiting for anybody: a strand that hangs would hold the interpreter's exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(HUNG_EXIT)
