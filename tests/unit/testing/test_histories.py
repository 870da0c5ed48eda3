"""Groups under histories that nobody thought of: polls, joins, crashes, lost answers and outages in any order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from shadowstream.testing import Broker, Clock, MemoryConsumer

PARTITIONS = 5
STEPS = 300
HISTORIES = 60
PROTOCOLS = {
    "eager": {},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


class History:
    """Some members of one group, a broker, and chance with a seed."""

    def __init__(self, seed: int, protocol: dict[str, str]) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self.broker.create_topic("in", PARTITIONS)
        self.protocol = protocol
        self.members: dict[int, MemoryConsumer] = {}
        self.held: dict[int, set[int]] = {}
        self.trace: list[Any] = []
        self.produced = 0
        self.read: set[tuple[int, int]] = set()

    def step(self) -> None:
        action = self.chance.choice(
            [self.poll] * 12 + [self.consume] * 4 + [self.produce] * 4 + [self.commit] * 4 + [self.time_passes] * 2
            + [self.join] * 3 + [self.leave, self.crash, self.trouble, self.calm]
        )  # fmt: skip
        action()

    def some(self) -> int | None:
        return self.chance.choice(sorted(self.members)) if self.members else None

    def poll(self) -> None:
        if (name := self.some()) is not None:
            message = self.members[name].poll(self.chance.choice([0, 0, 0.1, 2.0]))
            if message is not None and message.error() is None:
                self.handed_out(name, [message])

    def consume(self) -> None:
        if (name := self.some()) is not None:
            self.handed_out(name, self.members[name].consume(10, self.chance.choice([0, 0.1])))

    def handed_out(self, name: int, messages: list[Any]) -> None:
        self.trace.append((name, [(message.partition(), message.offset()) for message in messages]))
        self.read |= {(message.partition(), message.offset()) for message in messages if message.error() is None}

    def produce(self) -> None:
        place = self.chance.randrange(PARTITIONS)
        if self.chance.random() < 0.2:
            self.broker.log("in", place).skip(self.chance.randrange(1, 4))
        self.broker.append("in", b"value", partition=place)
        self.produced += 1

    def commit(self) -> None:
        if (name := self.some()) is None:
            return
        member = self.members[name]
        places = [each for each in member.position(member.assignment()) if each.offset >= 0]
        try:
            member.commit(offsets=places, asynchronous=self.chance.random() < 0.5)
        except KafkaException as error:
            self.trace.append((name, error.args[0].name()))

    def time_passes(self) -> None:
        for name in sorted(self.members):
            if self.chance.random() < 0.7:
                self.members[name].heartbeat()
        self.clock.advance(self.chance.choice([0.5, 5.0, 20.0]))

    def join(self) -> None:
        if len(self.members) < 4:
            name = len(self.held)
            static = {"group.instance.id": f"i-{self.chance.randrange(6)}"} if self.chance.random() < 0.3 else {}
            given = {"group.id": "g", "client.id": f"c-{name}", "enable.auto.commit": False, "socket.timeout.ms": 1000}
            member = MemoryConsumer(
                {**given, **static, "auto.offset.reset": "earliest", **self.protocol}, broker=self.broker
            )
            self.members[name], self.held[name] = member, set()
            member.subscribe(["in"], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def leave(self) -> None:
        if (name := self.some()) is not None:
            self.members.pop(name).close()

    def crash(self) -> None:
        if (name := self.some()) is not None:
            self.members.pop(name).crash()

    def trouble(self) -> None:
        faults = self.broker.faults
        self.chance.choice(
            [
                faults.fail_commits,
                faults.lose_commit_answers,
                faults.lose_heartbeat_answers,
                self.broker.stop,
                lambda: faults.cut_off.add(f"c-{self.some()}"),
                lambda: setattr(faults, "slow_commits", True),
            ]
        )()

    def calm(self) -> None:
        self.broker.faults.clear()
        self.broker.start()

    # What the members hear, and what must hold then

    def name_of(self, consumer: MemoryConsumer) -> int:
        return int(consumer.name.removeprefix("c-"))

    def assigned(self, consumer: MemoryConsumer, partitions: list[TopicPartition]) -> None:
        name, places = self.name_of(consumer), {each.partition for each in partitions}
        assert not places & self.held[name], "given twice"
        self.held[name] |= places
        self.trace.append((name, "assigned", sorted(places)))

    def revoked(self, consumer: MemoryConsumer, partitions: list[TopicPartition]) -> None:
        self.taken(consumer, partitions, "revoked")

    def lost(self, consumer: MemoryConsumer, partitions: list[TopicPartition]) -> None:
        self.taken(consumer, partitions, "lost")

    def taken(self, consumer: MemoryConsumer, partitions: list[TopicPartition], how: str) -> None:
        name, places = self.name_of(consumer), {each.partition for each in partitions}
        assert places <= self.held[name], "taken without being given"
        self.held[name] -= places
        self.trace.append((name, how, sorted(places)))

    def check(self) -> None:
        """No partition has two owners in the broker's book."""
        group = self.broker.groups.get("g")
        if group is not None:
            owned = [place for places in group.members().values() for place in places]
            assert len(owned) == len(set(owned)), group.members()

    def settle(self) -> None:
        """Let everything end well: the members that are left share all, and read all that is not committed."""
        self.calm()
        for _ in range(400):
            self.join() if not self.members else None
            for name in sorted(self.members):
                self.handed_out(name, self.members[name].consume(50, 1.0))


def run(seed: int, protocol: str) -> History:
    history = History(seed, PROTOCOLS[protocol])
    for _ in range(STEPS):
        history.step()
        history.check()
    history.settle()
    return history


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whatever_happened_the_members_that_are_left_share_all_partitions_and_nothing_is_skipped(protocol: str) -> None:
    for seed in range(HISTORIES):
        history = run(seed, protocol)
        alive = {name: member for name, member in history.members.items() if member._fatal is None}
        if not alive:
            continue
        places = sorted(each.partition for member in alive.values() for each in member.assignment())
        assert places == list(range(PARTITIONS)), (seed, places)
        ends = {place: log.records for (_, place), log in history.broker.logs.items()}
        there = {(place, record.offset) for place, records in ends.items() for record in records}
        assert there == history.read & there, (seed, sorted(there - history.read))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_choices_make_the_same_history(protocol: str) -> None:
    first, second = run(7, protocol), run(7, protocol)
    assert first.trace == second.trace
    assert first.broker.offsets["g"].history == second.broker.offsets["g"].history
    assert first.trace
