"""The chain's topics on a cluster: made for one run, and taken away after it.

Every run on a real cluster has topics and groups of its own, so that it meets no old data and nobody's services.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from shadowstream.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CHAIN", "ENDS", "RunTopics", "side_topics"]

CHAIN = ("voucher.claimed", "voucher.dispatched", "voucher.used")
"""The topics that services read, in their order."""
ENDS = ("voucher.settled", "voucher.cancelled")
"""Where the chain ends."""
PARTITIONS = 4
ANSWER_S = 15.0
DELETE_S = 5.0


def side_topics(topic: str) -> tuple[str, ...]:
    """Return where copies of a topic's messages go that do not go the straight way."""
    return f"{topic}.quarantine", f"{topic}.dlq", f"{topic}.shadow.dlq", f"{topic}.shadow.parked"


@dataclass(frozen=True, slots=True)
class RunTopics:
    """The names of one run's topics, and the cluster they are on."""

    bootstrap: str
    prefix: str = ""
    """Sets one run's topics and groups apart; empty on a cluster of its own."""
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How the services prove who they are, so that we can do the same."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The topics that services read."""
        return tuple(f"{self.prefix}{name}" for name in CHAIN)

    @property
    def ends(self) -> tuple[str, ...]:
        """The topics where the chain ends."""
        return tuple(f"{self.prefix}{name}" for name in ENDS)

    @property
    def sides(self) -> tuple[str, ...]:
        """The topics for copies."""
        return tuple(side for name in self.chain for side in side_topics(name))

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic of the run."""
        return self.chain + self.ends + self.sides

    def plain(self, topic: str) -> str:
        """Return a topic's name as the services' settings spell it."""
        return topic.removeprefix(self.prefix)

    def client(self) -> dict[str, Any]:
        """Return the properties of a plain client of this cluster; what goes wrong is told by its calls."""
        return {**self.security, "bootstrap.servers": self.bootstrap, "log_level": 2}

    def reach(self) -> None:
        """See that a broker answers.

        Raises:
            BrokerError: none does.
        """
        try:
            self._admin().list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            raise BrokerError(
                f"{self.bootstrap}: no broker answered within {ANSWER_S:.0f} s ({error.args[0].str()});"
                " check --bootstrap, or leave it out to run on the embedded broker"
            ) from error

    def create(self) -> None:
        """Make them all, and return once each can be written to.

        Raises:
            BrokerError: the cluster does not let us make topics.
        """
        admin = self._admin()
        new = [NewTopic(name, PARTITIONS) for name in self.all]
        for name, made in admin.create_topics(new, request_timeout=ANSWER_S).items():
            self._made(name, made)
        self._await_partitions(admin)

    def appear(self) -> None:
        """Ask for each of them, which is all that the embedded broker needs to make them."""
        admin = self._admin()
        for name in self.all:
            admin.list_topics(name, timeout=ANSWER_S)
        self._await_partitions(admin)

    def delete(self, groups: Iterable[str]) -> None:
        """Take the run's topics and groups away; what the cluster does not let us delete stays."""
        admin = self._admin()
        tasks: list[Any] = list(admin.delete_topics(list(self.all), request_timeout=DELETE_S).values())
        tasks += admin.delete_consumer_groups(list(groups), request_timeout=DELETE_S).values()
        for task in tasks:
            task.exception()

    def _await_partitions(self, admin: AdminClient) -> None:
        """Wait until every partition has a leader.

        Raises:
            BrokerError: one still has none after a while.
        """
        until = time.monotonic() + ANSWER_S
        while waiting := self._leaderless(admin):
            if time.monotonic() > until:
                raise BrokerError(f"no leader after {ANSWER_S:.0f} s for {', '.join(waiting)}; check the brokers")
            time.sleep(0.05)

    def _leaderless(self, admin: AdminClient) -> list[str]:
        known = admin.list_topics(timeout=ANSWER_S).topics
        return [
            name
            for name in self.all
            if name not in known
            or not known[name].partitions
            or any(partition.leader < 0 for partition in known[name].partitions.values())
        ]

    def _made(self, name: str, made: Any) -> None:  # noqa: ANN401 - a future, which the client does not type
        try:
            made.result(timeout=ANSWER_S * 2)
        except KafkaException as error:
            raise BrokerError(
                f"{self.bootstrap}: topic {name} cannot be created ({error.args[0].str()}); the demo makes topics of"
                " its own for each run: use a cluster or a user that may, or leave --bootstrap out"
            ) from error

    def _admin(self) -> AdminClient:
        return AdminClient(self.client())
