"""What everything that reads through aiokafka shares: its records in our shape, and copies that are delivered."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from shadowstream.integrations.gatehouse.record import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiokafka import AIOKafkaProducer, ConsumerRecord

    from shadowstream.integrations.gatehouse.sieve import Aside

__all__ = ["delivered", "record_of", "send"]

log = logging.getLogger("shadowstream.integrations")

RETRY_S: Final = 1.0


async def delivered(aside: Aside, send: Callable[[Aside], Awaitable[Any]]) -> None:
    """Return once the copy is there: until then its original is not settled."""
    while True:
        try:
            await send(aside)
        except Exception:
            log.exception("copy_not_delivered topic=%s: it is tried again", aside.topic)
            await asyncio.sleep(RETRY_S)
        else:
            return


async def send(producer: AIOKafkaProducer, aside: Aside) -> None:
    """Send a copy, and wait for its acknowledgement."""
    record = aside.record
    await producer.send_and_wait(
        aside.topic, record.value(), record.key(), timestamp_ms=record.milliseconds, headers=aside.headers
    )


def record_of(message: ConsumerRecord) -> Record:
    """Return one of aiokafka's messages in our shape."""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        list(message.headers),
        message.timestamp,
    )
