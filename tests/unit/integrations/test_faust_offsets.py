"""Which offset a lane's Faust app commits, whatever was stepped over, acknowledged, or never there."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.integrations.faust import lane_app
from shadowstream.lane import Lane
from tests.signals import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOPIC = "voucher.claimed"
MARKED = (("x-shadow", b"1;run=a"),)
OWN, OTHER, GAP = "own", "other", "gap"

steady = settings(derandomize=True, deadline=None, max_examples=500)
fetches = st.lists(st.sampled_from([OWN, OTHER, OTHER, GAP]), max_size=8)
steps = st.lists(st.one_of(fetches, st.integers(0, 20), st.just("commit")), max_size=25)
committed = st.sampled_from([None, 0, 5])
"""What is committed at first."""


@pytest.fixture(scope="module")
def partitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return what makes a new partition; all of them have one consumer."""
    folder: Path = tmp_path_factory.mktemp("faust")
    loop = asyncio.new_event_loop()
    app: Any = lane_app(settings_of(folder, topics={TOPIC: {}}, mark=None), Lane.NORMAL, store="memory://", loop=loop)
    app.topics._acking_topics.add(TOPIC)
    numbers = count()
    yield lambda committed, first: Partition(app.consumer, TP(TOPIC, next(numbers)), committed, first)
    for each in (app.consumer._thread.thread_loop, loop):
        each.close()


class Partition:
    """A partition whose messages a consumer of the normal lane is handed as Faust hands them."""

    def __init__(self, consumer: Any, place: TP, committed: int | None, first: int) -> None:
        self.consumer, self.place, self.committed, self.next = consumer, place, committed, first
        self.at_work: list[Any] = []
        # As Faust's own look at what is committed leaves it.
        consumer._read_offset[place] = committed
        consumer._committed_offset[place] = committed or None

    def fetch(self, kinds: list[str]) -> None:
        """Read messages of these kinds, which lie one after the other."""
        consumer, place = self.consumer, self.place
        kinds_at = dict(enumerate(kinds, self.next))
        self.next += len(kinds)
        records = [self._record(offset, kind) for offset, kind in kinds_at.items() if kind != GAP]
        for _, record in consumer.scheduler.iterate({place: records}):
            read = consumer._read_offset[place]
            message = consumer._to_message(place, record)
            if read and record.offset - read > 1:
                consumer.loop.run_until_complete(consumer._add_gap(place, read + 1, record.offset))
            self.at_work.append(message)
            consumer._read_offset[place] = record.offset

    def _record(self, offset: int, kind: str) -> Any:
        headers = MARKED if kind == OTHER else ()
        return ConsumerRecord(TOPIC, self.place.partition, offset, 1, 0, b"k", b"v", None, 1, 1, headers)

    def done(self, which: int) -> None:
        """Acknowledge one of the messages at work, in no order."""
        if self.at_work:
            self.consumer.ack(self.at_work.pop(which % len(self.at_work)))

    def commit(self) -> None:
        """Commit what Faust would."""
        consumer = self.consumer
        found = consumer._filter_committable_offsets(list(consumer._filter_tps_with_pending_acks({self.place})))
        consumer._committed_offset.update(found)
        self.committed = found.get(self.place, self.committed)


@steady
@given(steps=steps, committed=committed, missing=st.integers(0, 3))
def test_nothing_that_is_at_work_is_ever_committed(
    partitions: Any, steps: Any, committed: int | None, missing: int
) -> None:
    partition = partitions(committed, (committed or 0) + missing)
    for step in steps:
        if isinstance(step, list):
            partition.fetch(step)
        elif isinstance(step, int):
            partition.done(step)
        else:
            partition.commit()
            lowest = min((each.offset for each in partition.at_work), default=partition.next)
            assert (partition.committed or 0) <= lowest
    partition.fetch([OWN])
    while partition.at_work:
        partition.done(-1)
    partition.commit()
    assert partition.committed == partition.next


def test_what_is_stepped_over_while_one_message_waits_is_not_kept_one_by_one(partitions: Any) -> None:
    partition = partitions(None, 0)
    partition.fetch([OWN])
    for _ in range(100):
        partition.fetch([OTHER] * 50)
        partition.commit()
    consumer, place = partition.consumer, partition.place
    assert not partition.committed
    assert [len(books) for books in (consumer._acked[place], consumer._gap[place])] == [0, 0]
    # Every 64th or so is handed to Faust, which is done with it when it comes to it.
    assert len(consumer._books[place].at_work) < 5000 / 64 + 1
