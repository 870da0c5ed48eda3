"""The Celery link of the whole chain: one task, which hands on to Kafka. Where it works is in the environment."""

from __future__ import annotations

import json
import os

from celery import Celery

import shadowstream as ss
from shadowstream.propagate.tasks.celery import carrying

URL, OUT = os.environ["TESTS_REDIS_URL"], os.environ["TESTS_TOPIC"]

settings = ss.load(os.environ["TESTS_SETTINGS"], strict=True)
app = carrying(Celery("chain", broker=URL), ss.Propagator(settings))
app.conf.update(
    task_default_queue=f"queue-{OUT}",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
producer = ss.Producer(settings)


def stop(order: str, where: str) -> str:
    """Return an order with one more stop written down: where it was, and in which lane and under which signature."""
    mark = ss.current()
    story = json.loads(order)
    story["stops"].append([where, None if mark is None else [mark.run, mark.signature, mark.hop]])
    return json.dumps(story)


@app.task
def hand_on(order: str) -> None:
    """Produce what came."""
    producer.produce(OUT, stop(order, "celery"))
    assert producer.flush(10) == 0
