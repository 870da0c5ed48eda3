"""Pyrallel Consumer: its asyncio engine, or its process engine for handlers that block or burn.

It hands over key and payload only, so no handler reads headers.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import resource
import tempfile
import time
from time import monotonic_ns, perf_counter

from pyrallel_consumer.config import KafkaConfig
from pyrallel_consumer.consumer import PyrallelConsumer
from pyrallel_consumer.dto import ExecutionMode, OrderingMode, WorkItem

from benchmarks.peers.task import (
    BACKOFF,
    ID,
    SLEEP_S,
    Report,
    Stopwatch,
    Task,
    asynchronous,
    burn,
    report,
    told,
)

SEVERAL = (os.cpu_count() or 1) > 4
"""Whether burning goes to other processes; on two cores that carry the broker too it made it three times slower."""
ORDERS = {"partition": OrderingMode.PARTITION, "key": OrderingMode.KEY_HASH, "none": OrderingMode.UNORDERED}


class Config(KafkaConfig):
    """Its own configuration has no place for properties of the client."""

    def get_consumer_config(self) -> dict[str, str | int | bool]:
        """Return the client's properties."""
        return {**super().get_consumer_config(), **BACKOFF}


def in_one_process(task: Task) -> bool:
    """Tell whether the asyncio engine does the work."""
    return task.handler == "async" or task.work == "none" or (task.work == "burn" and not SEVERAL)


def configured(task: Task) -> Config:
    """Return the settings of one run."""
    config = Config(BOOTSTRAP_SERVERS=[task.bootstrap], CONSUMER_GROUP=task.group)
    # Only a dead letter would need the payloads that it keeps a copy of otherwise.
    config.dlq_enabled = False
    parallel = config.parallel_consumer
    # Where nothing waits no order is asked for, and by partition it would do one message for each round of its loop.
    parallel.ordering_mode = OrderingMode.UNORDERED if task.work == "none" else ORDERS[task.order]
    # Ten times its default: it pauses the consumer at this number, and each pause throws away what was read ahead.
    parallel.execution.max_in_flight = 10_000
    parallel.queue_max_messages = 20_000
    if in_one_process(task):
        parallel.execution.mode = ExecutionMode.ASYNC
        return config
    parallel.execution.mode = ExecutionMode.PROCESS
    # As many as there are processors where they burn; its default where they wait.
    parallel.execution.process_config.process_count = (os.cpu_count() or 1) if task.work == "burn" else 8
    return config


def worked(work: str, board: str, item: WorkItem) -> None:
    """Do the work of one message in one of several processes, and note when on the board that all of them share."""
    if work == "burn":
        burn()
    else:
        time.sleep(SLEEP_S)
    (identity,) = ID.unpack_from(item.payload)
    shared = opened(board)
    ID.pack_into(shared, 8 * identity, -1 if ID.unpack_from(shared, 8 * identity)[0] else monotonic_ns())


@functools.cache
def opened(board: str) -> mmap.mmap:
    """Map the board into this process, once."""
    with open(board, "r+b") as file:  # noqa: PTH123 - the process engine pickles what it is given
        return mmap.mmap(file.fileno(), 0)


async def consume_here(task: Task) -> Report:
    """Consume with its asyncio engine."""
    over = asyncio.Event()
    watch = Stopwatch(task, over.set)
    handle = asynchronous(task, watch.ticker())

    async def handled(item: WorkItem) -> None:
        await handle(item.payload)

    consumer = PyrallelConsumer(config=configured(task), worker=handled, topic=task.topic)
    await consumer.start()
    await over.wait()
    return watch.report()


async def consume_in_processes(task: Task) -> Report:
    """Consume with its process engine; the times are read from the board when all are there or the time is over."""
    with tempfile.NamedTemporaryFile(prefix="pyrallel-") as file:
        file.truncate(8 * task.messages)
        shared = opened(file.name)
        worker = functools.partial(worked, task.work, file.name)
        consumer = PyrallelConsumer(config=configured(task), worker=worker, topic=task.topic)
        await consumer.start()
        began = 0.0
        while True:
            await asyncio.sleep(0.05)
            times = [time for (time,) in ID.iter_unpack(shared[:])]
            began = began or (perf_counter() if any(times) else 0.0)
            if all(times) or (began and perf_counter() - began > task.limit_s):
                break
        await consumer.stop()
    return of_board(task, times)


def of_board(task: Task, times: list[int]) -> Report:
    """Return what the board says."""
    noted = sorted(time for time in times if time > 0)
    seconds = (noted[-1] - noted[task.warm]) / 1e9
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(each.ru_utime + each.ru_stime for each in usage)
    return Report(len(noted) - 1 - task.warm, seconds, cpu_s, all(times), times.count(-1))


def consume(task: Task) -> Report:
    """Consume with the engine that the work asks for."""
    return asyncio.run(consume_here(task) if in_one_process(task) else consume_in_processes(task))


if __name__ == "__main__":
    report(consume(told()), "pyrallel-consumer", "confluent-kafka")
