"""aiokafka: a consumer for each lane, and a producer that stamps.

::

    consumer = LaneConsumer(settings, "normal", ["voucher.claimed"])     # "shadow" in another process
    producer = LaneProducer(settings, AIOKafkaProducer(bootstrap_servers=...))

    async with consumer:
        async for message in consumer:
            with consumer.lane_of(message):
                await producer.send_and_wait("voucher.dispatched", message.value)
            await consumer.raw.commit()

The client is aiokafka's own, under `LaneConsumer.raw`. Traps:

* What is set aside is delivered before the next message comes, so any commit of yours may pass it
  (``test_what_cannot_be_trusted_is_set_aside_before_the_next_message_comes``).
* The lane is restored by ``lane_of`` only: a message handled outside of it is handled in the caller's lane.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from shadowstream.headers import MarkWriter
from shadowstream.integrations.gatehouse.clients import delivered, record_of, send
from shadowstream.integrations.gatehouse.lenient import tolerate_header_names
from shadowstream.integrations.gatehouse.sieve import Sieve
from shadowstream.integrations.gatehouse.stamp import stamped
from shadowstream.kafka.producer import not_for_normal, rerouted
from shadowstream.lane import Lane, entered, mark_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from aiokafka import ConsumerRecord

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.integrations.gatehouse.sieve import Aside, Passage

__all__ = ["LaneConsumer", "LaneProducer"]


class LaneConsumer:
    """Reads some topics in one lane, each message asked for at the gate; use it in an ``async with`` block.

    ``options`` are aiokafka's own.

    Raises:
        ConfigError: the lane is the shadow lane, and it is off.
    """

    def __init__(
        self,
        settings: Settings,
        lane: Lane | str,
        topics: Sequence[str],
        *,
        commands: Mapping[str, str] | None = None,
        hooks: Iterable[Hook] = (),
        **options: Any,
    ) -> None:
        lane = Lane(lane)
        ours = settings.of(lane)
        tolerate_header_names()
        servers = str(ours.kafka["bootstrap.servers"])
        self.sieve = Sieve(settings, lane, self._deliver, commands=commands, hooks=hooks)
        own = {"bootstrap_servers": servers, "group_id": str(ours.kafka["group.id"]), "enable_auto_commit": False}
        sources = [settings.topic(each, lane).source for each in topics]
        self.raw = AIOKafkaConsumer(*sources, **{**own, **options})
        """The client's own consumer, for everything that is not here."""
        self._producer = AIOKafkaProducer(bootstrap_servers=servers)
        self._passages: dict[tuple[str, int, int], Passage] = {}

    async def __aenter__(self) -> Self:
        """Join the group."""
        await self._producer.start()
        await self.raw.start()
        self.sieve.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group."""
        await self.raw.stop()
        await self._producer.stop()
        self.sieve.close()

    def __aiter__(self) -> Self:
        """Be its own iterator."""
        return self

    async def __anext__(self) -> ConsumerRecord:
        """Return the next message of the lane, once it may go on."""
        return await self.getone()

    async def getone(self) -> ConsumerRecord:
        """Return the next message of the lane, once it may go on."""
        while True:
            message = await self.raw.getone()
            passage = await self.sieve.passed(record_of(message))
            if passage is not None:
                self._passages[_place(message)] = passage
                return message

    @contextmanager
    def lane_of(self, message: ConsumerRecord) -> Iterator[None]:
        """Do the work inside the block in the message's lane, and tell the gate how it ended."""
        passage = self._passages.pop(_place(message))
        try:
            with entered(passage.mark):
                yield
        except BaseException as error:
            passage.ended(error)
            raise
        passage.ended()

    async def _deliver(self, aside: Aside) -> None:
        await delivered(aside, partial(send, self._producer))


class LaneProducer:
    """Stamps what another producer sends; everything else is under ``raw``."""

    def __init__(self, settings: Settings, raw: AIOKafkaProducer) -> None:
        self.raw = raw
        """aiokafka's own producer; starting and stopping it is its owner's."""
        self._writer = MarkWriter.of(settings.mark)
        self._rerouted = rerouted(settings)
        self._shadows = frozenset(self._rerouted.values())

    async def send(self, topic: str, value: Any = None, key: Any = None, **more: Any) -> Any:
        """Queue one message, as aiokafka does; returns its future.

        Raises:
            MarkError: the headers carry a mark that is not the one of the work at hand, or the topic is shadow's alone
                and that is normal.
        """
        return await self.raw.send(self._place(topic), value, key, **self._stamped(more))

    async def send_and_wait(self, topic: str, value: Any = None, key: Any = None, **more: Any) -> Any:
        """Send one message, as aiokafka does; returns where it is.

        Raises:
            MarkError: the headers carry a mark that is not the one of the work at hand, or the topic is shadow's alone
                and that is normal.
        """
        return await self.raw.send_and_wait(self._place(topic), value, key, **self._stamped(more))

    def _place(self, topic: str) -> str:
        if mark_here() is not None:
            return self._rerouted.get(topic, topic)
        if topic in self._shadows:
            raise not_for_normal(topic)
        return topic

    def _stamped(self, more: dict[str, Any]) -> dict[str, Any]:
        return {**more, "headers": stamped(self._writer, more.get("headers"))}


def _place(message: ConsumerRecord) -> tuple[str, int, int]:
    return message.topic, message.partition, message.offset
