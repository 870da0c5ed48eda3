"""A lane whose process dies or stops in the midst of a transaction: what the tests of transactions share.

PYTEST_DONT_REWRITE: the tests import it before pytest could.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.broker.rig import DEADLINE_S, eventually, headers_of, text_of
from tests.broker.service import kill, surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from tests.broker.rig import Rig

MEMBER = """
import os, signal, sys
from functools import partial
import confluent_kafka
import shadowstream as ss
from shadowstream.events import Listeners
from shadowstream.kafka.clients import producer_properties
from shadowstream.kafka.transactions.aside import Aside
from shadowstream.kafka.worker.assembly import Ground, Registration, assemble
from shadowstream.lane import Lane

topic, out, lane, at, number = sys.argv[1:]
settings = ss.load("shadowstream.yaml")
producer = ss.Producer(settings)


class Doomed(confluent_kafka.Producer):
    # Everything is with the broker by then, and nobody has committed it.
    def send_offsets_to_transaction(self, offsets, membership, _seconds):
        self.flush()
        self.meet("before the offsets")
        super().send_offsets_to_transaction(offsets, membership, 10)
        self.meet("before the commit")

    def commit_transaction(self, *given):
        super().commit_transaction(*given)
        self.meet("after the commit")

    def meet(self, where):
        if where == at and not os.path.exists("met"):
            open("met", "w").close()
            os.kill(os.getpid(), int(number))


def handler(message):
    producer.produce(out, message.value(), message.key())


# Whoever stands still is to be refused for being no member any more, not left behind by its own patience before that.
aside = (lambda make, _: make()) if int(number) == signal.SIGSTOP else Aside
ground = Ground(producer=lambda ours, **more: Doomed(producer_properties(ours) | more), aside=aside)
assemble(settings, Lane(lane), [Registration(topic, topic, handler)], Listeners([]), ground).run()
"""


class Member:
    """A process that reads one topic in one lane, and meets a signal at a point of its first transaction."""

    def __init__(self, rig: Rig, document: Mapping[str, Any], *arguments: str) -> None:
        self._folder = rig.folder / f"member-{time.monotonic_ns()}"
        self._folder.mkdir()
        (self._folder / "member.py").write_text(MEMBER)
        (self._folder / "shadowstream.yaml").write_text(json.dumps(document))
        with (self._folder / "log").open("ab") as log:
            command = [sys.executable, "member.py", *arguments]
            self.process = subprocess.Popen(command, cwd=self._folder, env=surroundings(), stdout=log, stderr=log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kill(self.process.pid)
        self.process.wait()
        # Shown by pytest when the test fails.
        print(self.log())  # noqa: T201

    def log(self) -> str:
        """Return everything that was said."""
        return (self._folder / "log").read_text()

    def met(self) -> None:
        """Wait until it has come to its point."""
        eventually((self._folder / "met").exists, "the member at its point")


def seen(rig: Rig, topic: str, *, committed: bool = True) -> list[str]:
    """Return what a reader of a whole topic sees, by partition and offset: of committed messages only, or of all."""
    places = [TopicPartition(each.topic, each.partition, 0) for each in rig.places(topic)]
    reader = Consumer(
        {
            "bootstrap.servers": rig.bootstrap,
            "group.id": f"{rig.group}.seen",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    found: list[tuple[int, int, str]] = []
    left = {place.partition for place in places}
    until = time.monotonic() + DEADLINE_S
    try:
        reader.assign(places)
        while left and time.monotonic() < until:
            for message in reader.consume(1000, 0.1):
                error: KafkaError | None = message.error()
                if error is None:
                    left.add(message.partition() or 0)
                    found.append((message.partition() or 0, message.offset() or 0, text_of(message)))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
    finally:
        reader.close()
    assert not left, f"the end of {topic} was not reached in {sorted(left)}"
    return [value for _, _, value in sorted(found)]


def reason_of(rig: Rig, topic: str) -> bytes:
    """Return why the first message of a dead-letter topic lies there."""
    reader = Consumer({"bootstrap.servers": rig.bootstrap, "group.id": f"{rig.group}.reason"})
    reader.assign([TopicPartition(topic, each.partition, 0) for each in rig.places(topic)])
    try:
        message = reader.poll(DEADLINE_S)
        assert message is not None
        return dict(headers_of(message))["kafka_dlt-exception-message"] or b""
    finally:
        reader.close()
