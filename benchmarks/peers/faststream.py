"""FastStream on confluent-kafka: a batch subscriber, or `max_workers` where no order is asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faststream.confluent import KafkaBroker
from faststream.middlewares import AckPolicy

from benchmarks.peers.task import BACKOFF, Stopwatch, Task, asynchronous, report, synchronous, told

BATCH = 1000


async def body(message: Any) -> Any:  # noqa: ANN401 - the framework's own message
    """Decode to plain bytes: its own decoder would try JSON on each."""
    return message.body


def subscribed(broker: KafkaBroker, task: Task, watch: Stopwatch) -> None:
    """Register the handler; the parser has read the headers of each message before."""
    tick = watch.ticker()
    handle, handle_async = synchronous(task, tick), asynchronous(task, tick)
    common: dict[str, Any] = {"group_id": task.group, "auto_offset_reset": "earliest", "decoder": body}
    if task.order == "none" and task.concurrency > 1:
        # Its workers need ACK_FIRST: offsets are committed by the client, whether handled or not.
        register = broker.subscriber(
            task.topic, max_workers=task.concurrency, ack_policy=AckPolicy.ACK_FIRST, polling_interval=1.0, **common
        )
        register(handle_async if task.handler == "async" else handle)
        return

    async def batch(values: list[bytes]) -> None:
        if task.handler == "async":
            for value in values:
                await handle_async(value)
        else:
            for value in values:
                handle(value)

    register = broker.subscriber(
        task.topic, batch=True, max_records=BATCH, ack_policy=AckPolicy.ACK, polling_interval=0.1, **common
    )
    register(batch)


async def consume(task: Task) -> Stopwatch:
    """Consume until the watch says that it is done."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    watch = Stopwatch(task, lambda: loop.call_soon_threadsafe(over.set))
    # Without validating arguments by type, as its documentation recommends for speed.
    broker = KafkaBroker(task.bootstrap, config=BACKOFF, apply_types=False, logger=None)
    subscribed(broker, task, watch)
    await broker.start()
    await over.wait()
    return watch


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    report(asyncio.run(consume(told())).report(), "faststream", "confluent-kafka")
