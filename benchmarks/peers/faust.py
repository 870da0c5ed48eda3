"""Faust: one agent over `stream.events()`, with the large stream buffer that its settings recommend for throughput."""

from __future__ import annotations

import tempfile

import faust

from benchmarks.peers.task import COMMIT_S, Stopwatch, Task, asynchronous, report, synchronous, told


def consume(task: Task) -> Stopwatch:
    """Consume until the watch says that it is done."""
    app = faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        consumer_auto_offset_reset="earliest",
        value_serializer="raw",
        # "A buffer size of 131_072 may let you process over 30,000 events a second", says its documentation.
        stream_buffer_maxsize=131_072,
        broker_commit_interval=COMMIT_S,
        topic_disable_leader=True,
        datadir=tempfile.mkdtemp(prefix="faust-"),
        web_enabled=False,
    )
    worker = faust.Worker(app, loglevel="ERROR", redirect_stdouts=False, quiet=True)

    def done() -> None:
        report(watch.report(), "faust-streaming", "aiokafka")

    watch = Stopwatch(task, done)
    tick = watch.ticker()
    handle, handle_async = synchronous(task, tick), asynchronous(task, tick)
    topic = app.topic(task.topic, key_serializer="raw", value_serializer="raw")

    # Its concurrency hands messages to the next free instance, so it keeps no order.
    @app.agent(topic, concurrency=task.concurrency if task.order == "none" else 1)
    async def handled(stream: faust.Stream) -> None:
        if task.handler == "async":
            async for event in stream.events():
                _ = event.headers
                await handle_async(event.value)
        else:
            async for event in stream.events():
                _ = event.headers
                handle(event.value)

    worker.execute_from_commandline()
    return watch


if __name__ == "__main__":
    consume(told())
