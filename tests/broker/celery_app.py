"""The Celery app that the worker of the tests runs; where it works is in the environment."""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery

import shadowstream as ss
from shadowstream.propagate.tasks.celery import carrying

URL = os.environ["TESTS_REDIS_URL"]
NOTES = os.environ["TESTS_NOTES"]
"""The Redis list that tasks write to which nobody waits for."""

app = carrying(
    Celery("tests", broker=URL, backend=URL), ss.Propagator(ss.load(os.environ["TESTS_SETTINGS"], strict=True))
)
app.conf.update(
    task_default_queue=f"queue-{NOTES}",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    result_expires=600,
)


def here() -> str:
    mark = ss.current()
    return "normal" if mark is None else f"shadow {mark.run}"


@app.task
def lane(*_: Any) -> str:
    return here()


@app.task
def lanes(before: list[str]) -> list[str]:
    return [*before, here()]


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def third_time(self: Any) -> list[Any]:
    if self.request.retries < 2:
        raise self.retry()
    return [self.request.retries, here()]


@app.task
def sends() -> str:
    """Send another task and be done; that one writes down where it is."""
    noted.delay("sent")
    return here()


@app.task
def noted(*what: Any) -> None:
    with redis.Redis.from_url(URL) as client:
        client.rpush(NOTES, f"{what[-1]} {here()}")


@app.task
def fails() -> None:
    raise LookupError("the task's own")
