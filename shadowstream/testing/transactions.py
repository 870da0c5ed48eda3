"""Producers with a transactional id: who may write under it, and how each transaction ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from shadowstream.testing.answers import Place, Refusal
from shadowstream.testing.log import End, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.testing.broker import Broker
    from shadowstream.testing.groups import Credentials, Stand

__all__ = ["Author", "Transactions"]


@dataclass(slots=True)
class Author:
    """What the broker knows of one transactional id."""

    timeout_s: float
    epoch: int = -1
    work: Work | None = None
    """The open transaction, from its first message or offset on."""
    until: float = float("inf")
    """When an open transaction is aborted by the broker."""
    places: set[Place] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)


class Transactions:
    """Every transactional id of a broker. Each request carries the epoch that `begin` gave: an older one is fenced."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._authors: dict[str, Author] = {}

    def enroll(self, name: str, timeout_s: float) -> int:
        """Take a transactional id over: earlier producers are fenced, what they left open is aborted."""
        author = self._authors.setdefault(name, Author(timeout_s))
        self._close(author, End.ABORTED)
        author.epoch += 1
        author.timeout_s = timeout_s
        return author.epoch

    def check(self, name: str, epoch: int) -> Author:
        """Return the author if this is still the one.

        Raises:
            Refusal: another producer has the transactional id by now, or the transaction ran out of time.
        """
        author = self._authors[name]
        if author.epoch != epoch:
            raise Refusal(KafkaError.PRODUCER_FENCED)
        return author

    def work(self, name: str, epoch: int, place: Place) -> Work:
        """Add a partition to the open transaction, and return that."""
        author = self.check(name, epoch)
        author.places.add(place)
        return self._opened(author)

    def offsets(self, name: str, epoch: int, group: str, who: Credentials, stands: Mapping[Place, Stand]) -> None:
        """Commit a group's offsets together with the transaction."""
        author = self.check(name, epoch)
        if (members := self._broker.groups.get(group)) is not None:
            members.check_commit(who, transactional=True)
        author.groups.add(group)
        self._broker.offsets[group].pending.setdefault(self._opened(author), {}).update(stands)

    def end(self, name: str, epoch: int, end: End) -> None:
        """Commit or abort what is open."""
        self._close(self.check(name, epoch), end)

    def tick(self, now: float) -> None:
        """Abort what was open for too long, and fence whoever opened it."""
        for author in self._authors.values():
            if author.until <= now:
                self._close(author, End.ABORTED)
                author.epoch += 1

    def due(self) -> float:
        """Return when a transaction runs out of time."""
        return min((author.until for author in self._authors.values()), default=float("inf"))

    def _opened(self, author: Author) -> Work:
        if author.work is None:
            author.work = Work()
            author.until = self._broker.clock.monotonic() + author.timeout_s
        return author.work

    def _close(self, author: Author, end: End) -> None:
        if author.work is None:
            return
        author.work.end = end
        for place in author.places:
            self._broker.logs[place].close(author.work)
        for group in author.groups:
            self._broker.offsets[group].settle(author.work, committed=end is End.COMMITTED)
        author.work, author.until = None, float("inf")
        author.places, author.groups = set(), set()
