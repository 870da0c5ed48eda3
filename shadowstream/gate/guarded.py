"""A command's gate around any call: a request to a downstream, a query, a whole endpoint.

The rules are those of the lane in which the call is made. Traps:

* An interrupted call is neither a success nor a failure of its command
  (``test_an_interrupted_call_counts_as_neither_and_gives_its_place_back``).
"""

from __future__ import annotations

import asyncio
import time
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shadowstream.config.live import Watcher
from shadowstream.errors import RefusedError, SetupError
from shadowstream.events import Configured, Listeners, Outcome
from shadowstream.gate.gates import Gates
from shadowstream.gate.guard import Guard, Memo, Pulse
from shadowstream.gate.notes import Notes
from shadowstream.gate.verdict import Ticket, Verdict
from shadowstream.lane import Lane, current_lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from inspect import BoundArguments
    from types import TracebackType

    from shadowstream.config.model import LaneSettings, Settings
    from shadowstream.events import Event, Hook
    from shadowstream.gate.verdict import Gate

    Clock = Callable[[], float]

__all__ = ["Call", "Guarded"]

Function = TypeVar("Function", bound="Callable[..., Any]")

OFF: Final = "off"
"""What refuses every shadow call while the shadow lane is off."""
LEAST_WAIT_S: Final = 0.001


class Guarded:
    """Puts the gates of both lanes around calls; one of these for a process, so that a command has one state in it.

    ``hooks`` are told of calls and gates once a second, as a worker's are of messages; ``clock`` gives monotonic
    seconds.
    """

    def __init__(self, settings: Settings, hooks: Iterable[Hook] = (), *, clock: Clock = time.monotonic) -> None:
        board, self._around = Memo(), list[Watcher | Pulse | Guard]()
        if settings.normal.guard is not None:
            self._around.append(pulse := Pulse(board, clock))
            hooks = [*hooks, pulse]
        listeners = Listeners(hooks)
        self.clock = clock
        self.commands: set[str] = set()
        """Those of decorated functions; a block says its own only when it is entered."""
        self._doors = {Lane.NORMAL: _Doors(Gates(settings.normal, listeners), settings.normal, self._asked_first)}
        if settings.shadow is not None:
            guard = None if settings.normal.guard is None else Guard(settings.normal.guard, board, listeners, clock)
            self._around += [] if guard is None else [guard]
            gates = Gates(settings.shadow, listeners, guard)
            self._doors[Lane.SHADOW] = _Doors(gates, settings.shadow, self._asked_first)
        self._notes = Notes(listeners, self._levels) if listeners else None
        followers = {lane: partial(doors.adopt, clock) for lane, doors in self._doors.items()}
        watcher = Watcher(settings, followers, lambda *told: listeners.on(Configured(*told)))
        self._around.append(watcher)
        for doors in self._doors.values():
            doors.gates.hear(watcher.lay_over)

    def __call__(self, command: str, *, wait_s: float = 0.0, **values: object) -> Call:
        """Return what guards one call: a decorator, a ``with`` or an ``async with`` block.

        ``values`` are what a multi-key limit looks at; a decorated function's arguments are looked at by their names.
        A call that is refused asks again for ``wait_s`` seconds at most, and then raises.

        Raises:
            RefusedError: on the way into the block or the function; ``retry_after_s`` says when to come back.
            SetupError: what is decorated is a generator.
        """
        return Call(self, command, wait_s, values)

    def asked(self, command: str, **values: object) -> Asked:
        """Return a ``with`` block that is entered in any case: its ticket says whether the call may be made."""
        return Asked(self, command, values)

    def gates(self, lane: Lane) -> Gates | None:
        """Return one lane's gates, to force or watch a breaker; None while that lane is off."""
        doors = self._doors.get(lane)
        return None if doors is None else doors.gates

    def pass_through(self, command: str, values: Mapping[str, object]) -> Pass:
        """Ask once, in the lane of the work at hand."""
        lane = current_lane()
        doors = self._doors.get(lane)
        if doors is None:
            return Pass(lane, command, Ticket(Verdict.SHED, 1.0, by=OFF), self.clock())
        gate = doors.of(command)
        now = self.clock()
        ticket = gate.enter(now, values)
        if self._notes is not None:
            self._notes.decided(lane, command, ticket)
        return Pass(lane, command, ticket, now, gate, self._notes)

    def keyed(self, command: str) -> bool:
        """Tell whether the command has a limit by keys in either lane."""
        return any(command in doors.keyed for doors in self._doors.values())

    def _asked_first(self) -> None:
        # Not before: a server that forks its workers makes this object first, and threads do not come along.
        for each in self._around:
            each.start()

    def close(self) -> None:
        """Tell the hooks what they were not told yet, and leave what is shared with other processes."""
        for each in self._around:
            each.end()
        if self._notes is not None:
            self._notes.end()
        for doors in self._doors.values():
            doors.gates.close()

    def _levels(self) -> Iterable[Event]:
        now = self.clock()
        return [level for doors in self._doors.values() for level in doors.gates.levels(now)]


class _Doors:
    """One lane's gates, looked up without a lock once a command was asked for."""

    __slots__ = ("_asked_first", "_made", "_settings", "gates", "keyed")

    def __init__(self, gates: Gates, settings: LaneSettings, asked_first: Callable[[], None]) -> None:
        self.gates = gates
        self._settings = settings
        self.keyed = _keyed(settings)
        self._made: dict[str, Gate] = {}
        self._asked_first = asked_first

    def of(self, command: str) -> Gate:
        made = self._made.get(command)
        if made is None:
            self._asked_first()
            self._check(command)
            into = self._made
            made = into[command] = self.gates.gate(command, values=lambda _: _as_given)
        return made

    def _check(self, command: str) -> None:
        if (rule := self._settings.rate(command)) is not None and rule.by_partitions:
            raise SetupError(
                f"the rate of {command!r} goes by partitions, and a call around here has none; write `fleet: true`"
                " instead, or guard it where a worker handles messages"
            )

    def adopt(self, clock: Clock, settings: LaneSettings) -> None:
        self._settings = settings
        self.gates.adopt(settings, clock())
        self.keyed = _keyed(settings)
        # Swapped, not emptied: whoever is about to put a gate of before into it does so into the old one.
        self._made = {}


def _keyed(settings: LaneSettings) -> frozenset[str]:
    """Return the commands with a limit by keys."""
    return frozenset(command for command, rule in settings.key_limits.items() if rule)


def _as_given(values: Mapping[str, object]) -> Mapping[str, object]:
    return values


class Pass:
    """One decision about one call, until it has ended."""

    __slots__ = ("_began", "_gate", "_notes", "command", "lane", "ticket")

    def __init__(
        self,
        lane: Lane,
        command: str,
        ticket: Ticket,
        began: float,
        gate: Gate | None = None,
        notes: Notes | None = None,
    ) -> None:
        self.lane, self.command, self.ticket = lane, command, ticket
        # Not the ticket's own time: the open gate gives everybody the same ticket.
        self._began, self._gate, self._notes = began, gate, notes

    def left(self, error: BaseException | None, now: float) -> None:
        """Tell the gate how the call ended."""
        if self._gate is None or not self.ticket.admitted:
            return
        outcome = _outcome(error)
        self._gate.leave(self.ticket, outcome, now, error)
        if self._notes is not None:
            self._notes.ended(self.lane, self.command, outcome, now - self._began)

    def refusal(self) -> RefusedError:
        """Return what is raised when the call may not be made."""
        ticket = self.ticket
        why = "the shadow lane is off" if ticket.by == OFF else f"its {ticket.by} says no"
        return RefusedError(
            f"{self.command} in lane {self.lane}: {why}; come back after {ticket.wait_s:.3g} s",
            command=self.command,
            lane=self.lane,
            by=ticket.by,
            retry_after_s=ticket.wait_s,
        )


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.HANDLED
    return Outcome.FAILED if isinstance(error, Exception) else Outcome.CANCELLED


class Call:
    """One guarded call: decorates a function, or is the block around it."""

    __slots__ = ("_command", "_guarded", "_pass", "_values", "_wait_s")

    def __init__(self, guarded: Guarded, command: str, wait_s: float, values: Mapping[str, object]) -> None:
        self._guarded, self._command, self._wait_s, self._values = guarded, command, wait_s, values
        self._pass: Pass | None = None

    def __call__(self, function: Function) -> Function:
        """Guard each call of a function, sync or async."""
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise SetupError(
                f"{function.__qualname__} is a generator: it does its work after the call has returned; guard the work"
                f" with `with guarded({self._command!r}):` inside it"
            )
        named = self._naming(function)
        self._guarded.commands.add(self._command)
        guarded, command, wait_s = self._guarded, self._command, self._wait_s

        @wraps(function)
        def sync(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - the function's own
            with Call(guarded, command, wait_s, named(args, more)):
                return function(*args, **more)

        @wraps(function)
        async def later(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - the function's own
            async with Call(guarded, command, wait_s, named(args, more)):
                return await function(*args, **more)

        return later if iscoroutinefunction(function) else sync  # type: ignore[return-value] # of the same signature

    def _naming(
        self, function: Callable[..., Any]
    ) -> Callable[[tuple[Any, ...], dict[str, Any]], Mapping[str, object]]:
        """Return what finds the values of a multi-key limit among a function's arguments."""
        given, keyed, command = self._values, self._guarded.keyed, self._command
        shape = signature(function)

        def named(args: tuple[Any, ...], more: dict[str, Any]) -> Mapping[str, object]:
            return {**_named(shape.bind(*args, **more)), **given} if keyed(command) else given

        return named

    def __enter__(self) -> Ticket:
        until = self._guarded.clock() + self._wait_s
        while (rest_s := self._asked(until)) is not None:
            time.sleep(rest_s)
        return self._admitted()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    async def __aenter__(self) -> Ticket:
        until = self._guarded.clock() + self._wait_s
        # Time opens the gate, and time tells nobody: there is no event to wait for.
        while (rest_s := self._asked(until)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(rest_s)
        return self._admitted()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _asked(self, until: float) -> float | None:
        """Ask once; returns the seconds to wait before asking again, None when there is no more to ask."""
        self._pass = self._guarded.pass_through(self._command, self._values)
        ticket = self._pass.ticket
        left_s = until - self._guarded.clock()
        if ticket.admitted or ticket.by == OFF or left_s <= 0 or ticket.wait_s > left_s:
            return None
        return max(ticket.wait_s, LEAST_WAIT_S)

    def _admitted(self) -> Ticket:
        assert self._pass is not None  # noqa: S101 - _asked() comes before
        if not self._pass.ticket.admitted:
            raise self._pass.refusal()
        return self._pass.ticket

    def _leave(self, error: BaseException | None) -> None:
        assert self._pass is not None  # noqa: S101 - a block is left after it was entered
        self._pass.left(error, self._guarded.clock())


class Asked:
    """A block that is entered whatever the gate says."""

    __slots__ = ("_command", "_guarded", "_pass", "_values")

    def __init__(self, guarded: Guarded, command: str, values: Mapping[str, object]) -> None:
        self._guarded, self._command, self._values = guarded, command, values

    def __enter__(self) -> Ticket:
        self._pass = self._guarded.pass_through(self._command, self._values)
        return self._pass.ticket

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass.left(error, self._guarded.clock())


def _named(bound: BoundArguments) -> dict[str, object]:
    """Return a call's arguments by name, those of ``**more`` among them."""
    bound.apply_defaults()
    found = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.update(found.pop(name, {}))
    return found
