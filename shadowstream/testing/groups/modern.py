"""A group of the protocol of KIP-848: the broker says what each member should have, and members follow one by one.

As in Kafka's coordinator: each change of members or topics is a new group epoch with a new target. A member is first
asked to give up what the target has elsewhere; it takes the target's epoch once it has, and gets what others have
given up by then. So nobody waits for all, and no partition has two owners.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError

from shadowstream.testing.answers import Place, Refusal
from shadowstream.testing.groups.assignor import sticky
from shadowstream.testing.groups.seats import Application, Credentials, Seat, next_expiry

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Beat", "ModernGroup"]

NEVER = float("inf")


class Beat(NamedTuple):
    """The answer to a heartbeat."""

    epoch: int
    assigned: frozenset[Place]


@dataclass(slots=True)
class EpochSeat(Seat):
    """A member of such a group."""

    epoch: int = 0
    previous: int = -1
    pending: set[Place] = field(default_factory=set)
    """What it was asked to give up and may still hold."""
    revoke_until: float = NEVER
    """When it is thrown out if it has not given that up."""
    away: bool = False
    """Whether it is a static member that left for a while."""


class ModernGroup:
    """One group's members, the target and how far each has come."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._topics = topics
        self._seats: dict[str, EpochSeat] = {}
        self._target: dict[str, set[Place]] = {}
        self.epoch = 0

    def members(self) -> dict[str, frozenset[Place]]:
        """Return the partitions of each member, by member id."""
        return {member: frozenset(seat.assigned) for member, seat in self._seats.items()}

    # What clients ask

    def join(self, member: str, application: Application, now: float) -> Beat:
        """Become a member, under an id that the client made up."""
        before = self._static(application.instance)
        if before is not None and before.id != member:
            if not before.away:
                raise Refusal(KafkaError.UNRELEASED_INSTANCE_ID)
            self._take_over(before, member)
        seat = self._seats.get(member)
        if seat is None or seat.application != application:
            fresh = EpochSeat(member, application, now) if seat is None else seat
            fresh.application = application
            self._seats[member] = fresh
            self._retarget()
        return self._beat(self._seats[member], set(), now)

    def heartbeat(self, who: Credentials, owned: set[Place], now: float) -> Beat:
        """Show a sign of life and what one holds; hear what one should hold."""
        seat = self._known(who)
        replayed = who.epoch == seat.previous and owned <= seat.assigned
        if who.epoch != seat.epoch and not replayed:
            raise Refusal(KafkaError.FENCED_MEMBER_EPOCH)
        return self._beat(seat, owned, now)

    def leave(self, who: Credentials, now: float) -> None:
        """Go; a static member keeps its partitions until its session ends."""
        seat = self._known(who)
        if who.instance is None:
            self._remove(seat.id)
        else:
            seat.away = True
            seat.pending = set()
            seat.revoke_until = NEVER
            seat.seen(now)

    def check_commit(self, who: Credentials, *, transactional: bool = False) -> None:
        """Say whether somebody may commit now, as Kafka's coordinator does; raises why not."""
        outsider = not who.member and who.epoch < 0
        if outsider and (transactional or not self._seats):
            return
        seat = self._known(who)
        if who.epoch != seat.epoch:
            raise Refusal(KafkaError.ILLEGAL_GENERATION if transactional else KafkaError.STALE_MEMBER_EPOCH)

    # Time

    def due(self) -> float:
        """Return when something happens here by itself."""
        return min(next_expiry(self._seats.values()), *(seat.revoke_until for seat in self._seats.values()), NEVER)

    def tick(self, now: float) -> None:
        """Throw out whoever gave no sign of life, or did not give up in time what it was asked for."""
        for seat in [each for each in self._seats.values() if min(each.expires_at, each.revoke_until) <= now]:
            self._remove(seat.id)

    def refresh(self, now: float) -> None:
        """Give every member a whole session: a coordinator that comes back does not know when it was last seen."""
        for seat in self._seats.values():
            seat.seen(now)
            if seat.pending:
                seat.revoke_until = now + seat.application.rebalance_s

    def repartitioned(self, topic: str, _now: float) -> None:
        """Make a new target because a topic has other partitions than before."""
        if any(topic in seat.application.topics for seat in self._seats.values()):
            self._retarget()

    # Inside

    def _known(self, who: Credentials) -> EpochSeat:
        seat = self._seats.get(who.member)
        if who.instance is not None:
            holder = self._static(who.instance)
            if holder is not None and holder is not seat:
                raise Refusal(KafkaError.FENCED_INSTANCE_ID)
        if seat is None or seat.away:
            raise Refusal(KafkaError.UNKNOWN_MEMBER_ID)
        return seat

    def _static(self, instance: str | None) -> EpochSeat | None:
        if instance is None:
            return None
        return next((seat for seat in self._seats.values() if seat.application.instance == instance), None)

    def _take_over(self, before: EpochSeat, member: str) -> None:
        """Let a static member that comes back have its old place: the others do not notice."""
        del self._seats[before.id]
        self._target[member] = self._target.pop(before.id)
        before.id, before.away, before.epoch, before.previous = member, False, 0, -1
        self._seats[member] = before

    def _remove(self, member: str) -> None:
        del self._seats[member]
        self._retarget()

    def _retarget(self) -> None:
        self.epoch += 1
        members = {seat.id: seat.application.topics for seat in self._seats.values()}
        topics = {name: self._topics[name] for names in members.values() for name in names if name in self._topics}
        self._target = sticky(members, topics, self._target)

    def _beat(self, seat: EpochSeat, owned: set[Place], now: float) -> Beat:
        seat.seen(now)
        seat.owned = owned
        self._reconcile(seat, now)
        return Beat(seat.epoch, frozenset(seat.assigned))

    def _reconcile(self, seat: EpochSeat, now: float) -> None:
        """Bring one member as far towards the target as the others allow."""
        if seat.pending & seat.owned:
            return
        target = self._target[seat.id]
        seat.pending = (seat.assigned - target) & seat.owned
        seat.assigned &= target
        seat.revoke_until = now + seat.application.rebalance_s if seat.pending else NEVER
        if not seat.pending:
            if missing := target - seat.assigned:
                seat.assigned |= missing - self._held_by_others(seat)
            if seat.epoch != self.epoch:
                seat.previous, seat.epoch = seat.epoch, self.epoch

    def _held_by_others(self, seat: EpochSeat) -> set[Place]:
        return set().union(*(other.assigned | other.pending for other in self._seats.values() if other is not seat))
