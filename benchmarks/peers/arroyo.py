"""sentry-arroyo: `RunTask`, `RunTaskInThreads` for waiting, processes for burning on many cores; then a commit."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arroyo.backends.kafka import KafkaConsumer, build_kafka_consumer_configuration
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    CommitOffsets,
    ProcessingStrategy,
    ProcessingStrategyFactory,
    RunTask,
    RunTaskInThreads,
    RunTaskWithMultiprocessing,
)
from arroyo.processing.strategies.run_task_with_multiprocessing import MultiprocessingPool
from arroyo.types import Topic

from benchmarks.peers.task import BACKOFF, Report, Stopwatch, Task, burn, report, synchronous, told

if TYPE_CHECKING:
    from collections.abc import Callable


SEVERAL = (os.cpu_count() or 1) > 4
"""Whether burning goes to other processes; on two cores that carry the broker too it made it three times slower."""


def burnt(message: Any) -> bytes:  # noqa: ANN401 - its payload type is the topic's
    """Do the work of one message in another process, and hand back what the count needs."""
    burn()
    value: bytes = message.payload.value
    return value


class Strategies(ProcessingStrategyFactory[Any]):
    """Builds the chain of steps for each assignment."""

    def __init__(self, task: Task, handle: Callable[[bytes | None], None]) -> None:
        self._task = task
        self._handle = handle
        self._pool = MultiprocessingPool(os.cpu_count() or 1) if SEVERAL and task.work == "burn" else None

    def create_with_partitions(self, commit: Any, partitions: Any) -> ProcessingStrategy[Any]:  # noqa: ANN401, ARG002
        """Return the first step."""
        task, handle, last = self._task, self._handle, CommitOffsets(commit)

        def run(message: Any) -> None:  # noqa: ANN401
            payload = message.payload
            _ = payload.headers
            handle(payload.value)

        def given_back(message: Any) -> None:  # noqa: ANN401
            handle(message.payload)

        if self._pool is not None:
            # Batches of a thousand, two in the making for each process; results come back in order.
            counted = RunTask(given_back, last)
            return RunTaskWithMultiprocessing(burnt, counted, 1000, 1.0, self._pool, prefetch_batches=True)
        if task.work == "sleep" and task.order == "none":
            return RunTaskInThreads(run, task.concurrency, 2 * task.concurrency, last)
        # It has no order by key: whoever needs one handles a partition one by one.
        return RunTask(run, last)

    def shutdown(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.close()


def consume(task: Task) -> Report:
    """Consume until the watch says that it is done."""
    watch = Stopwatch(task, lambda: processor.signal_shutdown())  # noqa: PLW0108 - it is made below
    # Where other processes burn, this one only counts what they give back.
    elsewhere = SEVERAL and task.work == "burn"
    here = replace(task, work="none") if elsewhere else task
    properties = build_kafka_consumer_configuration(
        BACKOFF,
        bootstrap_servers=[task.bootstrap],
        group_id=task.group,
        auto_offset_reset="earliest",
        # The client's own; its own defaults keep a tenth of the messages ready.
        queued_min_messages=100_000,
        queued_max_messages_kbytes=65_536,
    )
    processor = StreamProcessor(
        KafkaConsumer(properties), Topic(task.topic), Strategies(task, synchronous(here, watch.ticker()))
    )
    processor.run()
    found = watch.report()
    if not elsewhere:
        return found
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return replace(found, cpu_s=found.cpu_s + children.ru_utime + children.ru_stime)


if __name__ == "__main__":
    report(consume(told()), "sentry-arroyo", "confluent-kafka")
