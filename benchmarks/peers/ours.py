"""shadowstream's own side: the worker's normal lane, as users run it."""

from __future__ import annotations

import os
import signal

import shadowstream as ss
from benchmarks.peers.task import Report, Stopwatch, Task, asynchronous, report, synchronous, told


def consume(task: Task) -> Report:
    """Consume until the watch says that it is done; order and concurrency stand in the settings file."""
    worker = ss.Worker(ss.load(task.settings, strict=True), lanes="normal")
    watch = Stopwatch(task, lambda: os.kill(os.getpid(), signal.SIGTERM))
    tick = watch.ticker()
    handle, handle_async = synchronous(task, tick), asynchronous(task, tick)

    async def handled_async(message: ss.Message) -> None:
        message.headers()
        await handle_async(message.value())

    def handled(message: ss.Message) -> None:
        message.headers()
        handle(message.value())

    worker.handles(task.topic)(handled_async if task.handler == "async" else handled)
    worker.run()
    return watch.report()


if __name__ == "__main__":
    report(consume(told()), "confluent-kafka")
