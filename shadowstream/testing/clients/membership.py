"""The client's side of a group: joins, heartbeats, and what it does when the broker says no.

A membership never calls the application: it hands its consumer the changes of the assignment one by one, and those are
carried out inside poll(), consume() and close(). It moves on only when they are.

The answer of a KIP-848 heartbeat is taken one step after the broker gave it. In between the broker may already know
the member under a newer epoch: that is where STALE_MEMBER_EPOCH comes from.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import KafkaError

from shadowstream.testing.answers import FATAL, TIMED_OUT, Place, Refusal
from shadowstream.testing.groups import ClassicGroup, Credentials, ModernGroup

if TYPE_CHECKING:
    from shadowstream.testing.broker import Broker
    from shadowstream.testing.groups.modern import Beat
    from shadowstream.testing.groups.seats import Application

__all__ = ["ClassicMembership", "Membership", "ModernMembership", "Owner"]

NEVER = float("inf")


class Owner(Protocol):
    """What a membership needs of its consumer."""

    broker: Broker
    name: str
    group_name: str
    interval_s: float
    """Between heartbeats; 0: with every call, and while waiting often enough to stay a member."""

    def changed(self, *, given: set[Place] | None = None, taken: set[Place] | None = None, lost: bool = False) -> None:
        """Queue a change of the assignment for the application."""

    def forget(self) -> None:
        """Drop the whole assignment and every change that waits, without a word."""

    def troubled(self, error: KafkaError) -> None:
        """Queue an error for the application."""


class Membership(Protocol):
    """A consumer's place in its group."""

    incremental: bool

    def serve(self, *, fresh: bool) -> None:
        """Take the next step; ``fresh``: the application has just called."""

    def who(self) -> Credentials:
        """Return what commits are signed with."""

    def due(self) -> float:
        """Return when the next step is due; infinity: with the next call."""

    def part(self) -> set[Place] | None:
        """Stop being a member, and return what is to be revoked before `leave`."""

    def leave(self) -> None:
        """Tell the broker."""


class Step(Enum):
    """How far a member is in joining."""

    OUT = "out"
    JOINING = "joining"
    SYNCING = "syncing"
    STEADY = "steady"
    DEAD = "dead"


class _Pulse:
    """When the next heartbeat is due."""

    def __init__(self, owner: Owner, application: Application) -> None:
        self._each_call = owner.interval_s == 0
        self._interval_s = owner.interval_s or application.session_s / 3
        self._last = -NEVER
        self.at_once = False

    def beats(self, now: float, *, fresh: bool) -> bool:
        """Tell whether one is due, and count it as sent."""
        if not (self.at_once or (fresh and self._each_call) or now >= self.due()):
            return False
        self._last, self.at_once = now, False
        return True

    def due(self) -> float:
        """Return when the next one is due."""
        return -NEVER if self.at_once else self._last + self._interval_s


class ClassicMembership:
    """A member of a group with generations."""

    def __init__(self, owner: Owner, application: Application) -> None:
        self.incremental = application.cooperative
        self._owner = owner
        self._application = application
        self._step = Step.OUT
        self._member, self._generation = "", -1
        self._held: set[Place] | None = None
        """What the group gave; None: nothing was given yet."""
        self._pulse = _Pulse(owner, application)
        self._heard_at = 0.0
        self._rejoins = False

    def who(self) -> Credentials:
        """Return what commits are signed with."""
        return Credentials(self._member, self._generation, self._application.instance)

    def due(self) -> float:
        """Return when the next heartbeat is due."""
        if self._rejoins and self._owner.broker.faults.reaches(self._owner.name):
            return -NEVER
        return NEVER if self._step in {Step.OUT, Step.DEAD} else self._pulse.due()

    def serve(self, *, fresh: bool) -> None:
        """Take steps until the broker or the application is to be waited for."""
        if self._step is Step.DEAD:
            return
        now = self._owner.broker.clock.monotonic()
        try:
            if self._rejoins or self._step is Step.OUT:
                self._pulse.beats(now, fresh=True)
                self._join(now)
            elif self._step is Step.STEADY:
                self._beat(now, fresh=fresh)
            if self._step in {Step.JOINING, Step.SYNCING}:
                self._pulse.beats(now, fresh=True)
                self._await(now)
        except Refusal as refusal:
            self._refused(refusal.code, now)

    def part(self) -> set[Place] | None:
        """Stop being a member; an eager one has an empty assignment revoked too, if it ever got one."""
        held, self._held = self._held, None
        if self.incremental and not held:
            return None
        return held

    def leave(self) -> None:
        """Tell the broker, unless the member is static: that one is expected back."""
        if self._member and self._application.instance is None:
            self._owner.broker.reached_by(self._owner.name)
            self._group().leave(self.who(), self._owner.broker.clock.monotonic())
        self._step = Step.DEAD

    def _group(self) -> ClassicGroup:
        group = self._owner.broker.group(self._owner.group_name)
        if not isinstance(group, ClassicGroup):
            raise Refusal(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
        return group

    def _join(self, now: float) -> None:
        self._owner.broker.reached_by(self._owner.name)
        owned = set(self._held or ()) if self.incremental else set()
        self._member = self._group().join(self._member, self._application, owned, now)
        self._step, self._heard_at, self._rejoins = Step.JOINING, now, False

    def _await(self, now: float) -> None:
        self._owner.broker.reached_by(self._owner.name)
        self._heard_at = now
        if self._step is Step.JOINING:
            answer = self._group().joined(self.who(), now)
            if answer is None:
                return
            self._generation, self._step = answer.generation, Step.SYNCING
        assigned = self._group().sync(self.who(), now)
        if assigned is not None:
            self._step = Step.STEADY
            self._assigned(assigned)

    def _assigned(self, assigned: set[Place]) -> None:
        held = self._held or set()
        self._held = assigned
        if not self.incremental:
            self._owner.changed(given=assigned)
            return
        if gone := held - assigned:
            self._owner.changed(taken=gone)
            # The others get what this one has given up in a further round.
            self._rejoins = True
        self._owner.changed(given=assigned - held)

    def _beat(self, now: float, *, fresh: bool) -> None:
        if not self._pulse.beats(now, fresh=fresh):
            return
        heard = self._owner.broker.heartbeat_of(self._owner.name)
        try:
            self._group().heartbeat(self.who(), now)
        except Refusal:
            if heard:
                raise
        self._heard_at = now if heard else self._heard_at

    def _refused(self, code: int, now: float) -> None:
        if code == KafkaError.REBALANCE_IN_PROGRESS:
            if self._held and not self.incremental:
                self._owner.changed(taken=self._held)
            self._held = self._held if self.incremental else None
            self._rejoins = True
        elif code in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}:
            self._lose(keep_id=code == KafkaError.ILLEGAL_GENERATION)
        elif code == KafkaError.FENCED_INSTANCE_ID:
            _die(self._owner, code)
            self._step, self._held, self._rejoins = Step.DEAD, None, False
        elif code == TIMED_OUT:
            if self._step is Step.STEADY and now >= self._heard_at + self._application.session_s:
                self._lose(keep_id=False)
        else:
            self._owner.troubled(KafkaError(code, f"JoinGroup failed: {KafkaError(code).str()}"))

    def _lose(self, *, keep_id: bool) -> None:
        if self._held:
            self._owner.changed(taken=self._held, lost=True)
        self._member = self._member if keep_id else ""
        self._held, self._generation, self._step, self._rejoins = None, -1, Step.OUT, False


class ModernMembership:
    """A member of a group with member epochs (KIP-848)."""

    incremental = True

    def __init__(self, owner: Owner, application: Application, member: str) -> None:
        self._owner = owner
        self._application = application
        self._member = member
        self._step = Step.OUT
        self._epoch = 0
        self._held: set[Place] = set()
        self._answer: Beat | Refusal | None = None
        self._pulse = _Pulse(owner, application)

    def who(self) -> Credentials:
        """Return what commits are signed with."""
        return Credentials(self._member, self._epoch, self._application.instance)

    def due(self) -> float:
        """Return when the next heartbeat is due, or its answer."""
        return NEVER if self._step is Step.DEAD else -NEVER if self._answer is not None else self._pulse.due()

    def serve(self, *, fresh: bool) -> None:
        """Take the answer of the last heartbeat; send the next one when the application has caught up."""
        answer, self._answer = self._answer, None
        if isinstance(answer, Refusal):
            self._refused(answer.code)
        elif answer is not None:
            self._epoch, self._step = answer.epoch, Step.STEADY
            self._assigned(set(answer.assigned))
            return
        now = self._owner.broker.clock.monotonic()
        if self._step is not Step.DEAD and self._pulse.beats(now, fresh=fresh):
            self._beat(now)

    def part(self) -> set[Place] | None:
        """Stop being a member."""
        held, self._held = self._held, set()
        return held or None

    def leave(self) -> None:
        """Tell the broker; it keeps a static member's partitions for a session."""
        joined = self._step is Step.STEADY or self._answer is not None
        self._step = Step.DEAD
        if joined:
            self._owner.broker.reached_by(self._owner.name)
            self._group().leave(self.who(), self._owner.broker.clock.monotonic())

    def _group(self) -> ModernGroup:
        group = self._owner.broker.group(self._owner.group_name, modern=True)
        if not isinstance(group, ModernGroup):
            raise Refusal(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
        return group

    def _beat(self, now: float) -> None:
        heard = False
        try:
            heard = self._owner.broker.heartbeat_of(self._owner.name)
            answer: Beat | Refusal = self._asked(now)
        except Refusal as refusal:
            answer = refusal
        self._answer = answer if heard else None

    def _asked(self, now: float) -> Beat:
        if self._step is Step.OUT:
            return self._group().join(self._member, self._application, now)
        return self._group().heartbeat(self.who(), set(self._held), now)

    def _assigned(self, assigned: set[Place]) -> None:
        gone, new = self._held - assigned, assigned - self._held
        self._held = assigned
        if gone:
            self._owner.changed(taken=gone)
        if gone or new:
            self._owner.changed(given=new)
            self._pulse.at_once = True

    def _refused(self, code: int) -> None:
        if code in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH}:
            if self._held:
                self._owner.changed(taken=self._held, lost=True)
            self._held, self._epoch, self._step = set(), 0, Step.OUT
        elif code in {KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID}:
            _die(self._owner, code)
            self._step, self._held = Step.DEAD, set()
        else:
            self._owner.troubled(KafkaError(code))


def _die(owner: Owner, code: int) -> None:
    """End as a client with a fatal error does: without a callback, and with an error that does not say fatal()."""
    owner.forget()
    owner.troubled(KafkaError(FATAL, f"Fatal error: {KafkaError(code).str()}"))
