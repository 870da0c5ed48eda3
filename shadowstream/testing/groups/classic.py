"""A group of the classic protocol: members join, one of them shares the partitions out, all sync.

As in Kafka's coordinator: a rebalance waits for every member to join again, for as long as the longest rebalance
timeout among them, and then goes on without the missing; the generation grows when it goes on. Until then commits of
the old generation are taken, from then until the leader has synced all are refused, and later those of the old one.
The leader's work is done here when it syncs: which member shares out makes no difference, when it does so makes one.
"""

from __future__ import annotations

from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError

from shadowstream.testing.answers import Place, Refusal
from shadowstream.testing.groups.assignor import ranged, sticky
from shadowstream.testing.groups.seats import Application, Credentials, Seat, next_expiry

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ClassicGroup", "Joined"]


class State(Enum):
    """Where a rebalance stands."""

    EMPTY = "empty"
    PREPARING = "preparing"
    COMPLETING = "completing"
    STABLE = "stable"


class Joined(NamedTuple):
    """The answer to a join."""

    generation: int
    leads: bool


class ClassicGroup:
    """One group's members and the rebalance under way."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._topics = topics
        self._seats: dict[str, Seat] = {}
        self._numbers = count(1)
        self._joined: set[str] = set()
        self._leader = ""
        self._deadline = float("inf")
        self.state = State.EMPTY
        self.generation = 0

    def members(self) -> dict[str, frozenset[Place]]:
        """Return the partitions of each member, by member id."""
        return {member: frozenset(seat.assigned) for member, seat in self._seats.items()}

    # What clients ask

    def join(self, member: str, application: Application, owned: set[Place], now: float) -> str:
        """Ask for a place in the next generation; returns the member id. `joined` has the answer, once there is one."""
        self._agrees(application)
        if not member and (before := self._static(application.instance)) is not None:
            seat, settled = self._come_back(before, application, now), self.state is State.STABLE
        else:
            seat = self._seat_for(member, application, now)
            unchanged = (seat.application, seat.owned) == (application, owned)
            settled = self.state is State.STABLE and unchanged and seat.id != self._leader
        seat.application, seat.owned = application, owned
        seat.seen(now)
        if self.state is not State.PREPARING and not settled:
            self._prepare(now)
        self._joined.add(seat.id)
        self._complete(now)
        return seat.id

    def joined(self, who: Credentials, now: float) -> Joined | None:
        """Return the answer to a join; None while others are waited for."""
        seat = self._known(who)
        seat.seen(now)
        if self.state is State.PREPARING:
            if seat.id in self._joined:
                return None
            # Its answer was overtaken by the next rebalance.
            raise Refusal(KafkaError.REBALANCE_IN_PROGRESS)
        return Joined(self.generation, seat.id == self._leader)

    def sync(self, who: Credentials, now: float) -> set[Place] | None:
        """Ask for the partitions; the leader shares them out. None while it has not."""
        seat = self._proven(who)
        seat.seen(now)
        if self.state is State.PREPARING:
            raise Refusal(KafkaError.REBALANCE_IN_PROGRESS)
        if self.state is State.COMPLETING and who.member == self._leader:
            self._share_out()
        return set(seat.assigned) if self.state is State.STABLE else None

    def heartbeat(self, who: Credentials, now: float) -> None:
        """Show a sign of life, and hear whether a rebalance goes on."""
        seat = self._proven(who)
        seat.seen(now)
        if self.state is State.PREPARING:
            raise Refusal(KafkaError.REBALANCE_IN_PROGRESS)

    def leave(self, who: Credentials, now: float) -> None:
        """Go, and let the others share the partitions."""
        self._known(who)
        self._remove(who.member, now)

    def check_commit(self, who: Credentials, *, transactional: bool = False) -> None:
        """Say whether somebody may commit now, as Kafka's coordinator does; raises why not."""
        if who.epoch < 0 and self.state is State.EMPTY:
            return
        if who.epoch >= 0 or who.member or who.instance is not None:
            self._proven(who)
        elif not transactional and self._seats:
            raise Refusal(KafkaError.UNKNOWN_MEMBER_ID)
        if not transactional and self.state is State.COMPLETING:
            raise Refusal(KafkaError.REBALANCE_IN_PROGRESS)

    # Time

    def due(self) -> float:
        """Return when something happens here by itself."""
        waiting = self._deadline if self.state is State.PREPARING else float("inf")
        return min(waiting, next_expiry(self._seats.values()))

    def tick(self, now: float) -> None:
        """Let sessions and rebalances end whose time is up."""
        for member in [each.id for each in self._seats.values() if each.expires_at <= now]:
            self._remove(member, now)
        self._complete(now)

    def refresh(self, now: float) -> None:
        """Give every member a whole session: a coordinator that comes back does not know when it was last seen."""
        for seat in self._seats.values():
            seat.seen(now)

    def repartitioned(self, topic: str, now: float) -> None:
        """Rebalance because a topic has other partitions than before; the leader would notice and rejoin."""
        if self.state is State.STABLE and any(topic in seat.application.topics for seat in self._seats.values()):
            self._prepare(now)

    # Inside

    def _agrees(self, application: Application) -> None:
        others = {seat.application.cooperative for seat in self._seats.values()}
        if others - {application.cooperative}:
            raise Refusal(KafkaError.INCONSISTENT_GROUP_PROTOCOL)

    def _seat_for(self, member: str, application: Application, now: float) -> Seat:
        if member:
            return self._known(Credentials(member, instance=application.instance))
        fresh = Seat(self._fresh_id(application), application, now)
        self._seats[fresh.id] = fresh
        if self.state is State.STABLE or self.state is State.COMPLETING:
            self._prepare(now)
        return fresh

    def _come_back(self, before: Seat, application: Application, now: float) -> Seat:
        """Let a static member that comes back have its old place: the others do not notice."""
        seat = Seat(self._fresh_id(application), application, now, before.assigned)
        del self._seats[before.id]
        self._seats[seat.id] = seat
        self._joined.discard(before.id)
        self._leader = seat.id if self._leader == before.id else self._leader
        return seat

    def _fresh_id(self, application: Application) -> str:
        return f"{application.name}-{next(self._numbers):06}"

    def _static(self, instance: str | None) -> Seat | None:
        if instance is None:
            return None
        return next((seat for seat in self._seats.values() if seat.application.instance == instance), None)

    def _known(self, who: Credentials) -> Seat:
        if who.instance is not None:
            holder = self._static(who.instance)
            if holder is not None and holder.id != who.member:
                raise Refusal(KafkaError.FENCED_INSTANCE_ID)
        seat = self._seats.get(who.member)
        if seat is None:
            raise Refusal(KafkaError.UNKNOWN_MEMBER_ID)
        return seat

    def _proven(self, who: Credentials) -> Seat:
        seat = self._known(who)
        if who.epoch != self.generation:
            raise Refusal(KafkaError.ILLEGAL_GENERATION)
        return seat

    def _prepare(self, now: float) -> None:
        self.state = State.PREPARING
        self._joined = set()
        self._deadline = now + max(seat.application.rebalance_s for seat in self._seats.values())

    def _complete(self, now: float) -> None:
        """Go on to the next generation when all have joined, or without those who were waited for long enough."""
        if self.state is not State.PREPARING:
            return
        if now >= self._deadline:
            missing = [each for each in self._seats.values() if each.id not in self._joined]
            for seat in missing:
                if seat.application.instance is None:
                    del self._seats[seat.id]
        elif len(self._joined) < len(self._seats):
            return
        if not self._joined:
            self.state = State.PREPARING if self._seats else State.EMPTY
            self._deadline = float("inf")
            return
        self.generation += 1
        self.state = State.COMPLETING
        if self._leader not in self._joined:
            self._leader = min(self._joined)

    def _share_out(self) -> None:
        members = {seat.id: seat.application.topics for seat in self._seats.values()}
        topics = {name: self._topics[name] for names in members.values() for name in names if name in self._topics}
        cooperative = any(seat.application.cooperative for seat in self._seats.values())
        if not cooperative:
            given = ranged(members, topics)
        else:
            owned = {seat.id: seat.owned for seat in self._seats.values()}
            given = sticky(members, topics, owned)
            # A partition that changes hands is given away first; its owner rejoins, and the next round gives it out.
            for member, places in given.items():
                others = (held for other, held in owned.items() if other != member)
                places.difference_update(set().union(*others) - owned[member])
        for member, places in given.items():
            self._seats[member].assigned = places
        self.state = State.STABLE

    def _remove(self, member: str, now: float) -> None:
        del self._seats[member]
        self._joined.discard(member)
        if not self._seats:
            self.state = State.EMPTY
            self.generation += 1
        elif self.state is State.PREPARING:
            self._complete(now)
        else:
            self._prepare(now)
