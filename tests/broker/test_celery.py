"""Celery tasks through a real worker of several processes, on a real Redis: done in the lane that they were sent in."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain, chord, group
from redis import Redis

import shadowstream as ss
from shadowstream.errors import NotAllowedError, SetupError
from shadowstream.propagate import Propagator
from shadowstream.propagate.tasks.celery import carrying
from tests.broker.rig import eventually
from tests.signals import ENVIRON, RUN, settings_of, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from containers.redis import RedisContainer

NOTES = "celery-notes"
WAIT_S = 30.0
MARK = ss.Mark(run=RUN)
SHADOW = f"shadow {RUN}"


@pytest.fixture(scope="module")
def tasks(redis: RedisContainer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run a worker of two processes; gives its app's module, as whoever sends tasks imports it."""
    folder = tmp_path_factory.mktemp("celery")
    settings_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **ENVIRON,
            "TESTS_REDIS_URL": redis.url,
            "TESTS_NOTES": NOTES,
            "TESTS_SETTINGS": str(folder / "shadowstream.yaml"),
        }.items():
            patch.setenv(name, value)
        module = importlib.import_module("tests.broker.celery_app")
        command = [sys.executable, "-m", "celery", "-A", "tests.broker.celery_app:app", "worker"]
        options = ["--pool", "prefork", "--concurrency", "2", "--without-mingle", "--without-gossip"]
        with (folder / "log").open("w") as log:
            worker = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=dict(os.environ))
            try:
                eventually(lambda: module.app.control.ping(timeout=0.5), "the worker answers")
                yield module
            finally:
                worker.terminate()
                worker.wait(30)
        module.app.close()


@pytest.fixture
def notes(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.delete(NOTES)
        yield client


def nothing() -> None:
    pass


def read(notes: Redis) -> list[Any]:
    found: Any = notes.lrange(NOTES, 0, -1)
    return list(found)


def test_a_task_is_done_in_the_lane_that_it_was_sent_in(tasks) -> None:
    with ss.entered(MARK):
        first = tasks.lane.delay()
    second = tasks.lane.delay()
    with ss.entered(MARK):
        third = tasks.app.send_task(tasks.lane.name)
    found = [each.get(timeout=WAIT_S) for each in (first, second, third)]
    assert found == [SHADOW, "normal", SHADOW]


def test_lanes_of_many_tasks_do_not_mix(tasks) -> None:
    sent = []
    for number in range(60):
        with ss.entered(ss.Mark(run=f"run-{number}") if number % 2 else None):
            sent.append(tasks.lane.delay())
    found = [each.get(timeout=WAIT_S) for each in sent]
    assert found == [f"shadow run-{number}" if number % 2 else "normal" for number in range(60)]


def test_a_chain_keeps_its_lane_from_task_to_task(tasks) -> None:
    def sent() -> Any:
        # Each time anew: Celery gives the steps of one object the same ids again, and so the first results.
        return chain(tasks.lanes.s([]), tasks.lanes.s(), tasks.lanes.s()).delay()

    with ss.entered(MARK):
        shadow = sent()
    normal = sent()
    assert shadow.get(timeout=WAIT_S) == [SHADOW] * 3
    assert normal.get(timeout=WAIT_S) == ["normal"] * 3


def test_a_chord_and_its_body_keep_the_lane(tasks) -> None:
    def sent() -> Any:
        return chord(group(tasks.lane.s() for _ in range(4)), tasks.lanes.s()).delay()

    with ss.entered(MARK):
        shadow = sent()
    normal = sent()
    assert shadow.get(timeout=WAIT_S) == [SHADOW] * 5
    assert normal.get(timeout=WAIT_S) == ["normal"] * 5


def test_a_retry_keeps_the_lane(tasks) -> None:
    with ss.entered(MARK):
        shadow = tasks.third_time.delay()
    normal = tasks.third_time.delay()
    assert shadow.get(timeout=WAIT_S) == [2, SHADOW]
    assert normal.get(timeout=WAIT_S) == [2, "normal"]


def test_what_a_task_sends_is_in_its_lane(tasks, notes: Redis) -> None:
    with ss.entered(MARK):
        tasks.sends.delay()
    tasks.sends.delay()
    eventually(lambda: sorted(read(notes)) == ["sent normal", f"sent {SHADOW}"], "both were sent on")


def test_callbacks_are_in_the_lane_of_their_task(tasks, notes: Redis) -> None:
    with ss.entered(MARK):
        tasks.lane.apply_async(link=tasks.noted.si("link"))
        tasks.fails.apply_async(link_error=tasks.noted.si("error"))
    eventually(lambda: sorted(read(notes)) == [f"error {SHADOW}", f"link {SHADOW}"], "both were called back")


@pytest.mark.parametrize("mark", ["1", 1, None, [], "", "1;run=a", signed(secret="a guess"), signed(ago_s=7 * 3600)])
def test_a_refused_task_fails_and_calls_nothing_back(tasks, notes: Redis, redis_url: str, mark: object) -> None:
    foreign = Celery("foreign", broker=redis_url, backend=redis_url)
    foreign.conf.task_default_queue = tasks.app.conf.task_default_queue
    sent = foreign.send_task(
        tasks.lane.name,
        headers={"x-shadow": mark},
        link=tasks.noted.si("link"),
        link_error=tasks.noted.si("error"),
    )
    with pytest.raises(Exception, match="shadow work refused"):
        sent.get(timeout=WAIT_S)
    # What comes after it in the queue is done, so a callback would have been too.
    tasks.noted.delay("after")
    eventually(lambda: read(notes), "the next task is done")
    assert read(notes) == ["after normal"]
    foreign.close()


def test_a_shadow_task_is_not_sent_over_a_broker_that_is_not_listed(tasks, redis_url: str, tmp_path) -> None:
    nowhere = Propagator(settings_of(tmp_path, propagate={"shadow": True, "allow": ["elsewhere"]}))
    app = carrying(Celery("strict", broker=redis_url, backend=redis_url, set_as_current=False), nowhere)
    app.conf.task_default_queue = tasks.app.conf.task_default_queue
    task = app.task(name=tasks.lane.name)(nothing)
    with ss.entered(MARK):
        for send in (task.delay, lambda: app.send_task(tasks.lane.name)):
            with pytest.raises(NotAllowedError, match=r"127\.0\.0\.1"):
                send()
        # Another app in this process goes by its own rules.
        assert tasks.lane.delay().get(timeout=WAIT_S) == SHADOW
    assert task.delay().get(timeout=WAIT_S) == "normal"
    app.close()


def test_a_task_called_in_place_stays_in_its_callers_lane(tasks) -> None:
    with ss.entered(MARK):
        assert tasks.lane() == SHADOW
        assert tasks.lane.apply().get() == SHADOW
    assert tasks.lane() == "normal"
    assert tasks.lane.apply().get() == "normal"


def test_an_app_that_has_tasks_already_is_refused(tmp_path) -> None:
    app = Celery("late", set_as_current=False)
    app.task(name="anything", lazy=False)(nothing)
    with pytest.raises(SetupError, match="before the first task"):
        carrying(app, Propagator(settings_of(tmp_path)))
    app.close()
