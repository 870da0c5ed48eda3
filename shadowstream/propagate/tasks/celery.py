"""Celery: tasks are sent with the mark of the work at hand, and done in the lane that they were sent in.

::

    app = carrying(Celery("vouchers", broker=...), propagator)     # before the first task is defined

Chains, groups, chords, links and retries are sent by workers while the task before them is still in its lane. Traps:

* Celery logs what a signal's receiver raises and goes on. The lane is entered in ``task_prerun``, for what comes after
  a task is sent before ``task_postrun``, but a task that is refused is stopped where it is called
  (``test_a_refused_task_fails_and_calls_nothing_back``).
* Everything is sent through the app's ``send_task``; a signal would be another app's too, and could stop nothing
  (``test_a_shadow_task_is_not_sent_over_a_broker_that_is_not_listed``).
* A refused task fails without its error callbacks: nobody knows in which lane these would be.
* A task that is called directly or eagerly is in its caller's lane already
  (``test_a_task_called_in_place_stays_in_its_callers_lane``).
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from celery import states
from celery.exceptions import Ignore
from celery.signals import task_postrun, task_prerun
from celery.utils.imports import symbol_by_name

from shadowstream.errors import MarkError, SetupError
from shadowstream.headers import UNREADABLE
from shadowstream.lane import entered
from shadowstream.propagate.carrier import Mapped
from shadowstream.propagate.refusals import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery, Task

    from shadowstream.propagate.propagator import Propagator

__all__ = ["carrying"]

log = logging.getLogger("shadowstream.propagate")

WIRE: Final = "celery"


def carrying(app: Celery, propagator: Propagator) -> Celery:
    """Let an app's tasks carry the lane of the work at hand; returns the same app.

    Raises:
        SetupError: the app has tasks already, which would run in no lane.
    """
    if "Task" in vars(app):
        raise SetupError("celery: say `carrying(app, propagator)` before the first task of the app is defined")
    wire, each = _Wire(app, propagator), cast("Any", app)
    each.task_cls = _lane_task(symbol_by_name(each.task_cls), wire)
    each.send_task = _stamping(app.send_task, wire)
    # Strong references: nobody else keeps the wire.
    task_prerun.connect(wire.before_run, weak=False)
    task_postrun.connect(wire.after_run, weak=False)
    return app


class _Wire:
    """The signal of one app: on the messages it sends, and around the tasks it does."""

    def __init__(self, app: Celery, propagator: Propagator) -> None:
        self._app, self._propagator = app, propagator
        self._inside: dict[str, entered] = {}
        self._refused: dict[str, str] = {}
        """Tasks that are called now and must not be done, by id, and why."""

    def stamped(self, headers: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return the headers that a task is sent with.

        Raises:
            NotAllowedError: the work at hand is shadow, and the configuration does not list the broker.
            MarkError: the headers carry another mark already, or it cannot be passed on.
        """
        sent = {**(headers or {})}
        self._propagator.departing(_carrier(sent), *self._broker, WIRE)
        return sent or headers

    def before_run(self, task_id: str, task: Task[Any, Any], **_: Any) -> None:  # noqa: ANN401 - the signal's
        """Enter the lane of a task that is about to be done."""
        if task.app is not self._app or task.request.is_eager:
            return
        arrival = self._propagator.arrived(_carrier({**(task.request.headers or {})}), WIRE)
        if arrival.refused:
            self._refused[task_id] = arrival.refused
        inside = self._inside[task_id] = entered(arrival.mark)
        inside.__enter__()

    def after_run(self, task_id: str, **_: Any) -> None:  # noqa: ANN401 - the signal's
        """Leave the lane of a task that is done."""
        inside = self._inside.pop(task_id, None)
        self._refused.pop(task_id, None)
        if inside is not None:
            inside.__exit__(None, None, None)

    def check(self, task: Task[Any, Any]) -> None:
        """Stop a task that must not be done, so that whoever waits for it hears why."""
        request: Any = task.request
        if request.called_directly or request.is_eager:
            return
        # Whatever kept the lane from being entered: such a task is not done as a normal one.
        reason = self._refused.get(request.id) or ("" if request.id in self._inside else UNREADABLE.reason)
        if not reason:
            return
        error = MarkError(told(reason))
        log.error("task_refused %s %s: %s", task.name, request.id, error)
        task.backend.store_result(request.id, error, states.FAILURE)
        raise Ignore

    @cached_property
    def _broker(self) -> tuple[str, int | None]:
        connection = self._app.connection_for_write()
        return connection.hostname or "", connection.port


def _carrier(headers: dict[str, Any]) -> Mapped:
    """Return a task's headers, which are JSON: what is no text is no mark, and is refused as an empty one."""

    def all_of(name: str) -> list[str]:
        if name not in headers:
            return []
        value = headers[name]
        return [value if isinstance(value, str) else ""]

    return Mapped(headers, all_of)


def _lane_task(inner: type[Task[Any, Any]], wire: _Wire) -> type[Task[Any, Any]]:
    """Return the app's own task class with both ends of the wire in it."""

    class LaneTask(inner):  # type: ignore[misc, valid-type] # whatever the app's tasks are
        abstract = True

        def __call__(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - the task's
            wire.check(self)
            return super().__call__(*arguments, **more)

    return LaneTask


def _stamping(send: Callable[..., Any], wire: _Wire) -> Callable[..., Any]:
    """Return an app's ``send_task`` with the mark of the work at hand in the headers."""

    def send_task(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - Celery's
        return send(*arguments, **{**more, "headers": wire.stamped(more.get("headers"))})

    return send_task
