"""What each fault does, and how it is undone."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewPartitions
from docker.errors import DockerException
from requests import RequestException

from containers.host import ContainerGroundError
from shadowstream.lane import Lane
from tests.chaos.fleet import GROUPS, sent
from tests.chaos.records import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from containers.cluster.brokers import Broker, KafkaCluster
    from containers.cluster.links import Link
    from tests.chaos.fleet import Fleet, Member
    from tests.chaos.load import Load
    from tests.chaos.plan import Fault

SEEN_S = 15.0
MOST_PARTITIONS = 12
FATS, FLOOD = 12, 4000
STORM_S = 1.5
"""How long a member stays in a storm."""


@dataclass
class Hands:
    """Does one fault after the other on each track."""

    cluster: KafkaCluster
    fleet: Fleet
    load: Load
    folder: Path
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    """Faults that took place, by kind."""
    failed: list[str] = field(default_factory=list)
    """Faults that could not be done: the ground's failure, not the worker's."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self, fault: Fault) -> None:
        """Do one fault and undo it."""
        time.sleep(fault.rest_s)
        began = time.monotonic()
        try:
            what = getattr(self, fault.kind)(fault)
        except (ContainerGroundError, KafkaException, DockerException, RequestException, TimeoutError) as error:
            self.failed.append(f"{fault.kind}: {error!r}")
            self.say(f"NOT DONE {fault.kind}: {error!r}")
            return
        with self._lock:
            self.done[fault.kind] += 1
        self.say(f"{fault.kind} {what or ''} ({time.monotonic() - began:.1f} s)")

    # Brokers

    def _broker(self, fault: Fault) -> Broker:
        return fault.one_of(self.cluster.brokers)

    def _coordinator(self, fault: Fault) -> Broker:
        """Return the broker that keeps a group's offsets; any one while nobody says."""
        number = self.cluster.coordinator(fault.one_of(list(GROUPS.values())))
        return self._broker(fault) if number is None else self.cluster.broker(number)

    def _killed(self, broker: Broker, fault: Fault) -> str:
        broker.kill()
        time.sleep(fault.lasting_s)
        broker.restart()
        self.cluster.wait_in_step()
        return f"broker {broker.number}"

    def _frozen(self, broker: Broker, fault: Fault) -> str:
        broker.pause()
        time.sleep(fault.lasting_s)
        broker.unpause()
        self.cluster.wait_in_step()
        return f"broker {broker.number} for {fault.lasting_s:.1f} s"

    def broker_killed(self, fault: Fault) -> str:
        return self._killed(self._broker(fault), fault)

    def coordinator_killed(self, fault: Fault) -> str:
        return self._killed(self._coordinator(fault), fault)

    def broker_frozen(self, fault: Fault) -> str:
        return self._frozen(self._broker(fault), fault)

    def coordinator_frozen(self, fault: Fault) -> str:
        return self._frozen(self._coordinator(fault), fault)

    def broker_shut_down(self, fault: Fault) -> str:
        broker = self._broker(fault)
        broker.shut_down()
        time.sleep(fault.lasting_s)
        broker.restart()
        self.cluster.wait_in_step()
        return f"broker {broker.number}"

    # Links

    @contextmanager
    def _healed_afterwards(self, fault: Fault, *links: Link) -> Iterator[None]:
        try:
            yield
            time.sleep(fault.lasting_s)
        finally:
            for link in links:
                link.healed()

    def _spoiled(self, broker: Broker, fault: Fault, spoil: Callable[[Link], None]) -> str:
        with self._healed_afterwards(fault, broker.link):
            spoil(broker.link)
        return f"broker {broker.number} for {fault.lasting_s:.1f} s"

    def link_cut(self, fault: Fault) -> str:
        return self._spoiled(self._broker(fault), fault, lambda link: link.cut())

    def coordinator_cut(self, fault: Fault) -> str:
        return self._spoiled(self._coordinator(fault), fault, lambda link: link.cut())

    def answers_lost(self, fault: Fault) -> str:
        """Let requests reach the coordinator, commits among them, and lose its answers."""
        broker = self._coordinator(fault)

        def lose(link: Link) -> None:
            link.silenced("downstream")
            link.torn(after_ms=int(fault.lasting_s * 900))

        return self._spoiled(broker, fault, lose)

    def link_silent(self, fault: Fault) -> str:
        streams = fault.one_of([("upstream",), ("downstream",), ("upstream", "downstream")])
        return self._spoiled(self._broker(fault), fault, lambda link: link.silenced(*streams))

    def link_torn(self, fault: Fault) -> str:
        return self._spoiled(self._broker(fault), fault, lambda link: link.torn(after_ms=100))

    def link_truncated(self, fault: Fault) -> str:
        return self._spoiled(self._broker(fault), fault, lambda link: link.truncated(3000 + int(fault.pick * 50_000)))

    def link_slow(self, fault: Fault) -> str:
        return self._spoiled(self._broker(fault), fault, lambda link: link.delayed(100, 50))

    def link_narrow(self, fault: Fault) -> str:
        return self._spoiled(self._broker(fault), fault, lambda link: link.narrowed(375))

    def link_closing_slowly(self, fault: Fault) -> str:
        def close(link: Link) -> None:
            link.closed_slowly(1000)
            link.torn(after_ms=200)

        return self._spoiled(self._broker(fault), fault, close)

    def all_links_cut(self, fault: Fault) -> str:
        links = [broker.link for broker in self.cluster.brokers]
        with self._healed_afterwards(fault, *links):
            for link in links:
                link.cut()
        return f"for {fault.lasting_s:.1f} s"

    def all_links_slow(self, fault: Fault) -> str:
        links = [broker.link for broker in self.cluster.brokers]
        with self._healed_afterwards(fault, *links):
            for link in links:
                link.delayed(50, 20)
        return f"for {fault.lasting_s:.1f} s"

    # Workers

    def _member(self, fault: Fault) -> Member:
        return fault.one_of(self.fleet.members)

    def _lane(self, fault: Fault) -> tuple[Member, Lane, int]:
        """Return a lane's process; one that is being started again is waited for."""
        member = self._member(fault)
        lane = list(Lane)[int(fault.pick * 1000) % 2]
        until = time.monotonic() + SEEN_S
        while (pid := member.lane(lane)) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"lane {lane} of {member.name} does not run")
            time.sleep(0.05)
        return member, lane, pid

    def lane_killed(self, fault: Fault) -> str:
        member, lane, pid = self._lane(fault)
        sent(pid, signal.SIGKILL)
        return f"{lane} of {member.name}"

    def lane_frozen(self, fault: Fault) -> str:
        member, lane, pid = self._lane(fault)
        sent(pid, signal.SIGSTOP)
        time.sleep(fault.lasting_s)
        sent(pid, signal.SIGCONT)
        return f"{lane} of {member.name} for {fault.lasting_s:.1f} s"

    def member_killed(self, fault: Fault) -> str:
        member = self._member(fault)
        member.killed()
        time.sleep(fault.lasting_s)
        member.start()
        return member.name

    def supervisor_killed(self, fault: Fault) -> str:
        """Kill the command alone: its lanes see it and drain."""
        member = self._member(fault)
        for lane in Lane:
            member.lane(lane)
        member.signal(signal.SIGKILL)
        if member.ended() is None:
            self.fleet.troubles.append(f"a lane of {member.name} did not end after its supervisor was killed")
            member.killed()
        time.sleep(fault.lasting_s)
        member.start()
        return member.name

    def member_stopped(self, fault: Fault) -> str:
        member = self._member(fault)
        self.fleet.left(member)
        time.sleep(fault.lasting_s)
        member.start()
        return member.name

    def member_stopped_at_once(self, fault: Fault) -> str:
        """Two signals: the second one means now."""
        member = self._member(fault)
        member.signal(signal.SIGTERM)
        time.sleep(0.2)
        member.signal(signal.SIGTERM)
        if member.ended() is None:
            self.fleet.troubles.append(f"{member.name} did not end after two signals")
            member.killed()
        member.start()
        return member.name

    def _joined(self) -> Member:
        """Start one more member, and wait until its lanes run."""
        member = self.fleet.joined()
        until = time.monotonic() + SEEN_S
        while not all(member.lane(lane) for lane in Lane) and time.monotonic() < until:
            time.sleep(0.05)
        return member

    def member_joined(self, fault: Fault) -> str:
        member = self._joined()
        time.sleep(fault.lasting_s)
        self.fleet.left(member, for_good=True)
        return f"{member.name} for {fault.lasting_s:.1f} s"

    def storm(self, fault: Fault) -> str:
        """Let a member join and leave again and again."""
        until = time.monotonic() + fault.lasting_s
        rounds = 0
        while time.monotonic() < until:
            member = self._joined()
            time.sleep(STORM_S)
            self.fleet.left(member, for_good=True)
            rounds += 1
        return f"{rounds} times"

    def partitions_added(self, fault: Fault) -> str:
        source = self.load.sources[int(fault.pick * 2)]
        more = source.partitions + 1
        if more > MOST_PARTITIONS:
            return "none: enough"
        added = self.cluster.admin.create_partitions([NewPartitions(source.topic, more)])
        for each in added.values():
            each.result(SEEN_S)
        self.cluster.wait_in_step({source.topic: more})
        self.load.spread(source, more)
        return f"{source.topic} has {more}"

    def normal_hangs(self, fault: Fault) -> str:
        return self._hangs("n", fault)

    def shadow_hangs(self, fault: Fault) -> str:
        return self._hangs("s", fault)

    def _hangs(self, lane: str, fault: Fault) -> str:
        """Let a handler hang, then end its member in order, or its lane by force."""
        [number] = self.load.burst(lane, Kind.HANG, 1, fault.one_of(self.load.sources))
        met = self.folder / f"hang-{number}"
        until = time.monotonic() + SEEN_S
        while not met.exists() or not met.read_text().endswith("\n"):
            if time.monotonic() > until:
                raise TimeoutError(f"message {number} is not handled yet")
            time.sleep(0.05)
        pid = int(met.read_text())
        time.sleep(fault.lasting_s)
        member = next((each for each in self.fleet.members if pid in {each.lane(lane) for lane in Lane}), None)
        if member is None or int(fault.pick * 1000) % 2:
            sent(pid, signal.SIGKILL)
            return f"message {number} for {fault.lasting_s:.1f} s, its lane killed"
        self.fleet.left(member)
        member.start()
        return f"message {number} for {fault.lasting_s:.1f} s, {member.name} stopped"

    def fat_messages(self, fault: Fault) -> str:
        for lane in GROUPS:
            self.load.burst(lane, Kind.FAT, FATS)
        time.sleep(fault.lasting_s)
        return f"{FATS} in each lane"

    def shadow_flood(self, fault: Fault) -> str:
        self.load.burst("s", Kind.PLAIN, FLOOD)
        time.sleep(fault.lasting_s)
        return f"{FLOOD} at once"
