"""aiokafka: `getmany`, handled one by one, committed twice a second after handling."""

from __future__ import annotations

import asyncio
from time import monotonic

from aiokafka import AIOKafkaConsumer

from benchmarks.peers.task import COMMIT_S, Stopwatch, Task, asynchronous, report, synchronous, told


async def consume(task: Task) -> Stopwatch:
    """Consume until the watch says that it is done."""
    over = asyncio.Event()
    watch = Stopwatch(task, over.set)
    tick = watch.ticker()
    handle, handle_async = synchronous(task, tick), asynchronous(task, tick)
    # Its own auto-commit may pass messages that are not handled yet; by hand, and by time, costs next to nothing.
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # There is one partition, so its share of a fetch may be more than the default megabyte.
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    committed = monotonic()
    while not over.is_set():
        # It has no concurrency of its own, so messages are awaited one after the other.
        for batch in (await consumer.getmany(timeout_ms=100, max_records=1000)).values():
            if task.handler == "async":
                for message in batch:
                    _ = message.headers
                    await handle_async(message.value)
            else:
                for message in batch:
                    _ = message.headers
                    handle(message.value)
        if monotonic() - committed > COMMIT_S:
            await consumer.commit()
            committed = monotonic()
    await consumer.stop()
    return watch


if __name__ == "__main__":
    report(asyncio.run(consume(told())).report(), "aiokafka")
