"""Quix Streams: one application for each lane, with a filter in front of each dataframe.

::

    lane = QuixLane(settings)                              # SHADOWSTREAM_LANE says which one; normal without it
    app = Application(**lane.options())
    claimed = lane.sieved(app.dataframe(app.topic(lane.topic("voucher.claimed"))))

What the dataframe sends on carries the mark, one hop further; changelogs and repartition topics are named by the
group, and so the lane's own. Traps:

* One thread polls and handles, so a refused message cannot wait: ``park`` or ``shed``
  (``test_a_lane_that_would_have_to_wait_is_refused``).
* A value is decoded before anybody is asked, so a copy is made of the message as it lies in the log
  (``test_what_is_set_aside_is_the_message_as_it_was_written``).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import TopicPartition
from quixstreams import message_context

from shadowstream.config import OnLimit
from shadowstream.errors import BrokerError, SetupError
from shadowstream.headers import MarkWriter
from shadowstream.integrations.gatehouse.process import lane_of_process
from shadowstream.integrations.gatehouse.record import Record
from shadowstream.integrations.gatehouse.sieve import Sieve
from shadowstream.integrations.gatehouse.stamp import stamped
from shadowstream.kafka.clients import consumer_of, producer_of
from shadowstream.lane import Lane, entered

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from confluent_kafka import Message as RawMessage
    from quixstreams.dataframe import StreamingDataFrame

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.integrations.gatehouse.sieve import Aside, Passage

__all__ = ["QuixLane"]

T = TypeVar("T")

ANSWER_S: Final = 30.0


class QuixLane:
    """What an application of Quix Streams needs to know of its lane.

    Raises:
        ConfigError: the lane is the shadow lane, and it is off.
        SetupError: a topic of the shadow lane has ``on_limit: wait``.
        ValueError: there is no such lane.
    """

    def __init__(
        self,
        settings: Settings,
        lane: Lane | str | None = None,
        *,
        commands: Mapping[str, str] | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.lane = lane_of_process(lane)
        self._ours = settings.of(self.lane)
        waiting = [name for name, topic in self._ours.topics.items() if topic.on_limit is OnLimit.WAIT]
        if self.lane is Lane.SHADOW and waiting:
            raise SetupError(
                f"topic {waiting[0]!r}: Quix Streams handles where it polls, so a refused shadow message cannot wait;"
                f" set `topics: {waiting[0]}: {{shadow: {{on_limit: park}}}}` (or shed), or use Worker"
            )
        self._sieve = Sieve(settings, self.lane, self._deliver, commands=commands, hooks=hooks)
        self._writer = MarkWriter.of(settings.mark)
        self._passage: Passage | None = None
        """The message that is handled now: there is one thread, and so one."""

    def options(self, **more: Any) -> dict[str, Any]:
        """Return what the lane's application is made with; ``more`` goes over it."""
        self._sieve.start()
        own = {
            "broker_address": str(self._ours.kafka["bootstrap.servers"]),
            "consumer_group": str(self._ours.kafka["group.id"]),
            "on_processing_error": self._failed,
            "on_message_processed": self._processed,
        }
        return {**own, **more}

    def topic(self, name: str) -> str:
        """Return the Kafka topic that the lane reads and writes under this name."""
        return self._sieve.source(name)

    def sieved(self, dataframe: StreamingDataFrame) -> StreamingDataFrame:
        """Return the dataframe of the lane's own messages, each asked for at the gate and handled in its lane."""
        return dataframe.filter(self._passes, metadata=True).set_headers(self._stamp)

    def close(self) -> None:
        """Leave what is shared with other processes."""
        self._sieve.close()

    def _passes(self, value: Any, _key: Any, timestamp: int, headers: Any) -> bool:
        place = message_context()
        payload = value if isinstance(value, bytes | None) else json.dumps(value, default=str).encode()
        record = Record(place.topic, place.partition, place.offset, None, payload, list(headers or ()), timestamp)
        self._passage = _driven(self._sieve.passed(record))
        if self._passage is None:
            return False
        # Never left: Quix Streams gives each message a context of its own.
        entered(self._passage.mark).__enter__()
        return True

    def _stamp(self, _value: Any, _key: Any, _timestamp: int, headers: Any) -> list[tuple[str, bytes]]:
        return stamped(self._writer, headers) or []

    def _processed(self, _topic: str, _partition: int, _offset: int) -> None:
        self._end(None)

    def _failed(self, error: Exception, _row: Any, _logger: Any) -> bool:
        self._end(error)
        # As it is without us: the application ends.
        return False

    def _end(self, error: BaseException | None) -> None:
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.ended(error)

    async def _deliver(self, aside: Aside) -> None:
        raw = self._as_written(aside.record)
        producer, errors = producer_of(self._ours), list[Any]()
        producer.produce(
            aside.topic,
            raw.value(),
            raw.key(),
            timestamp=aside.record.milliseconds,
            headers=[*aside.headers],
            on_delivery=lambda error, _: errors.append(error) if error is not None else None,
        )
        if producer.flush(ANSWER_S) or errors:
            raise BrokerError(f"a copy was not delivered to {aside.topic}: {errors[0] if errors else 'no answer'}")

    def _as_written(self, record: Record) -> RawMessage:
        """Read a message once more, byte for byte."""
        consumer = consumer_of(self._ours, **{"group.id": f"{self._ours.kafka['group.id']}.again"})
        try:
            consumer.assign([TopicPartition(record.source, record.place, record.at)])
            until = time.monotonic() + ANSWER_S
            while time.monotonic() < until:
                raw = consumer.poll(0.1)
                if raw is not None and raw.error() is None and raw.offset() == record.at:
                    return raw
        finally:
            consumer.close()
        raise BrokerError(f"{record.source}[{record.place}]@{record.at} cannot be read once more, to be set aside")


def _driven(work: Coroutine[Any, Any, T]) -> T:
    """Do something that is written as a coroutine and waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise SetupError("a message would have to wait at the gate, and cannot; use park or shed")
