"""The lane follows the work: nesting, tasks, threads, and the one place where it does not."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from dataclasses import FrozenInstanceError

import pytest

from shadowstream.lane import Lane, Mark, current, current_lane, entered, is_shadow

FIRST = Mark(run="fcst-1111")
SECOND = Mark(run="fcst-2222", hop=3)


def test_work_starts_in_the_normal_lane() -> None:
    assert current() is None
    assert current_lane() is Lane.NORMAL
    assert not is_shadow()


def test_entering_a_mark_makes_the_work_shadow_and_leaving_restores_it() -> None:
    with entered(FIRST) as mark:
        assert mark is FIRST
        assert current() is FIRST
        assert current_lane() is Lane.SHADOW
        assert is_shadow()
    assert current() is None


def test_a_bare_mark_is_shadow_too() -> None:
    with entered(Mark()):
        assert is_shadow()


def test_lanes_nest_and_each_exit_restores_what_was_there() -> None:
    with entered(FIRST):
        with entered(SECOND):
            assert current() is SECOND
        assert current() is FIRST
        with entered(None):
            assert not is_shadow()
        assert current() is FIRST


def test_an_exception_restores_the_lane_and_passes_through() -> None:
    with entered(FIRST):
        with pytest.raises(RuntimeError, match="boom"), entered(SECOND):
            raise RuntimeError("boom")
        assert current() is FIRST
    assert current() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_even_an_exception_that_is_no_error_restores_the_lane(error: type[BaseException]) -> None:
    with pytest.raises(error), entered(FIRST):
        raise error
    assert current() is None


def test_one_entered_object_may_be_used_again_and_inside_itself() -> None:
    lane = entered(FIRST)
    with lane:
        with entered(None), lane:
            assert current() is FIRST
        assert current() is FIRST
    assert current() is None


def test_the_lane_follows_asyncio_tasks_and_to_thread() -> None:
    async def read() -> Mark | None:
        await asyncio.sleep(0)
        return current()

    async def work() -> list[Mark | None]:
        with entered(FIRST):
            task = asyncio.create_task(read())
            return [await read(), await task, await asyncio.to_thread(current), *await asyncio.gather(read(), read())]

    assert asyncio.run(work()) == [FIRST] * 5


def test_a_task_keeps_the_lane_it_was_made_in_after_its_maker_left() -> None:
    async def read_later(gate: asyncio.Event) -> Mark | None:
        await gate.wait()
        return current()

    async def work() -> Mark | None:
        gate = asyncio.Event()
        with entered(FIRST):
            task = asyncio.create_task(read_later(gate))
        with entered(SECOND):
            gate.set()
            return await task

    assert asyncio.run(work()) is FIRST


def test_tasks_of_different_lanes_do_not_see_each_other() -> None:
    async def hold(mark: Mark | None) -> bool:
        with entered(mark):
            for _ in range(5):
                await asyncio.sleep(0)
                if current() is not mark:
                    return False
        return current() is None

    async def work() -> list[bool]:
        return await asyncio.gather(*(hold(mark) for mark in (FIRST, None, SECOND) * 10))

    assert all(asyncio.run(work()))


def test_a_callback_of_the_loop_runs_in_the_lane_that_scheduled_it() -> None:
    async def work() -> Mark | None:
        seen: asyncio.Future[Mark | None] = asyncio.get_running_loop().create_future()
        with entered(FIRST):
            asyncio.get_running_loop().call_soon(lambda: seen.set_result(current()))
        return await seen

    assert asyncio.run(work()) is FIRST


def _seen_in_thread(target: object, *args: object) -> Mark | None:
    seen: list[Mark | None] = []
    assert callable(target)
    thread = threading.Thread(target=lambda: seen.append(target(*args)))
    thread.start()
    thread.join()
    return seen[0]


def test_a_plain_thread_starts_in_the_normal_lane() -> None:
    """The trap of the module's docstring: Python 3.11 to 3.13 copies no context into a thread."""
    with entered(FIRST):
        assert _seen_in_thread(current) is None


def test_copy_context_run_carries_the_lane_into_a_plain_thread() -> None:
    with entered(FIRST):
        context = copy_context()
    assert _seen_in_thread(context.run, current) is FIRST


def test_a_lane_entered_in_a_copied_context_does_not_leak_out() -> None:
    def enter_and_stay() -> bool:
        entered(FIRST).__enter__()  # never left: that is the point
        return is_shadow()

    assert copy_context().run(enter_and_stay)
    assert not is_shadow()


@pytest.mark.parametrize(
    "run",
    ["", "A", "run_1", "../etc", "a;b", "{a}", "a b", "a\n", "\uff11", "a" * 41, "a\0", "*", "a:b", "caf\u00e9"],
)
def test_a_run_id_that_could_escape_into_a_key_or_path_is_refused(run: str) -> None:
    """B12: run ids end up in topic names, Redis keys and table names."""
    with pytest.raises(ValueError, match="use 1 to 40 of a-z, 0-9"):
        Mark(run=run)


@pytest.mark.parametrize("run", ["a", "0", "-", "fcst-1111", "a" * 40])
def test_a_plain_run_id_is_taken(run: str) -> None:
    assert Mark(run=run).run == run


@pytest.mark.parametrize("mark", [{"hop": -1}, {"expires_at": -1}])
def test_hop_and_expiry_cannot_be_negative(mark: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        Mark(run="r", **mark)  # type: ignore[arg-type]  # all values are numbers


@pytest.mark.parametrize("mark", [{"key_id": "k1"}, {"signature": "A" * 43}])
def test_a_signature_and_its_key_id_come_together(mark: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="come together"):
        Mark(run="r", **mark)  # type: ignore[arg-type]  # all values are text


def test_a_mark_cannot_be_changed_and_equals_its_like() -> None:
    with pytest.raises(FrozenInstanceError):
        FIRST.run = "other"  # type: ignore[misc]  # what the test is about
    assert Mark(run="fcst-1111") == FIRST
    assert len({FIRST, Mark(run="fcst-1111"), SECOND}) == 2
