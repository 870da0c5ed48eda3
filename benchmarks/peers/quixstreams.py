"""Quix Streams: one streaming dataframe whose `update` sees value and headers; checkpoints after handling."""

from __future__ import annotations

import tempfile
from pathlib import Path

from quixstreams import Application

from benchmarks.peers.task import BACKOFF, Stopwatch, Task, report, synchronous, told


def consume(task: Task) -> Stopwatch:
    """Consume until the watch says that it is done."""
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        consumer_extra_config=BACKOFF,
        # Bytes in, nothing out: no topic to create, no state to restore.
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=Path(tempfile.gettempdir()) / task.group,
        loglevel="WARNING",
    )
    watch = Stopwatch(task, app.stop)
    handle = synchronous(task, watch.ticker())

    def handled(value: bytes, _key: object, _timestamp: int, _headers: object) -> None:
        handle(value)

    topic = app.topic(task.topic, key_deserializer="bytes", value_deserializer="bytes")
    # It has no concurrency within a partition: whatever the order asked for, it keeps the partition's.
    app.dataframe(topic).update(handled, metadata=True)
    app.run()
    return watch


if __name__ == "__main__":
    report(consume(told()).report(), "quixstreams", "confluent-kafka")
