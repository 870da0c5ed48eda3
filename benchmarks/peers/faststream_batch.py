"""FastStream on confluent-kafka with a batch subscriber: its handler is given a list, and goes through it itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from faststream.middlewares import AckPolicy

from benchmarks.peers.faststream import body, started
from benchmarks.peers.task import Stopwatch, Task, asynchronous, report, synchronous, told

if TYPE_CHECKING:
    from faststream.confluent import KafkaBroker

BATCH = 1000


def subscribed(broker: KafkaBroker, task: Task, watch: Stopwatch) -> None:
    """Register the handler of lists."""
    tick = watch.ticker()
    handle, handle_async = synchronous(task, tick), asynchronous(task, tick)

    async def batch(values: list[bytes]) -> None:
        if task.handler == "async":
            for value in values:
                await handle_async(value)
        else:
            for value in values:
                handle(value)

    register = broker.subscriber(
        task.topic,
        batch=True,
        max_records=BATCH,
        ack_policy=AckPolicy.ACK,
        polling_interval=0.1,
        group_id=task.group,
        auto_offset_reset="earliest",
        decoder=body,
    )
    register(batch)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    report(asyncio.run(started(told(), subscribed)).report(), "faststream", "confluent-kafka")
