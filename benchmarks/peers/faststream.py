"""FastStream on confluent-kafka, as its documentation shows it: a handler that is given one message after the other."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faststream.confluent import KafkaBroker
from faststream.middlewares import AckPolicy

from benchmarks.peers.task import BACKOFF, Stopwatch, Task, asynchronous, report, synchronous, told

__all__ = ["body", "started"]


async def body(message: Any) -> Any:  # noqa: ANN401 - the framework's own message
    """Decode to plain bytes: its own decoder would try JSON on each."""
    return message.body


def subscribed(broker: KafkaBroker, task: Task, watch: Stopwatch) -> None:
    """Register the handler; the parser has read the headers of each message before."""
    tick = watch.ticker()
    handle = asynchronous(task, tick) if task.handler == "async" else synchronous(task, tick)
    # Offsets are committed by the client, whether handled or not: with any other policy it commits after each message.
    # Only so it may have several workers, too.
    workers = task.concurrency if task.order == "none" else 1
    more: dict[str, Any] = {"max_workers": workers} if workers > 1 else {}
    register = broker.subscriber(
        task.topic,
        group_id=task.group,
        auto_offset_reset="earliest",
        decoder=body,
        ack_policy=AckPolicy.ACK_FIRST,
        polling_interval=1.0,
        **more,
    )
    register(handle)


async def started(task: Task, subscribe: Any = subscribed) -> Stopwatch:  # noqa: ANN401 - one of two of one signature
    """Consume until the watch says that it is done."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    watch = Stopwatch(task, lambda: loop.call_soon_threadsafe(over.set))
    # Without validating arguments by type, as its documentation recommends for speed.
    broker = KafkaBroker(task.bootstrap, config=BACKOFF, apply_types=False, logger=None)
    subscribe(broker, task, watch)
    await broker.start()
    await over.wait()
    return watch


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    report(asyncio.run(started(told())).report(), "faststream", "confluent-kafka")
