"""Functions that are called elsewhere, in the lane in which they were handed over."""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

import shadowstream as ss
from shadowstream.propagate.tasks import LaneExecutor, carried

MARK = ss.Mark(run="fcst-1111", expires_at=1_795_480_000, hop=3, key_id="k1", signature="s" * 43)
POOLS = {
    "threads": lambda: ThreadPoolExecutor(2),
    # Not plainly forked: this process has threads of other tests, which no fork survives.
    "forked": lambda: ProcessPoolExecutor(2, get_context("forkserver")),
    "spawned": lambda: ProcessPoolExecutor(1, get_context("spawn")),
}


def lane(_: object = None, *, shout: bool = False) -> tuple[ss.Mark | None, bool]:
    return ss.current(), shout


@pytest.fixture(params=POOLS)
def pool(request):
    with POOLS[request.param]() as inner:
        yield LaneExecutor(inner)


def test_work_on_a_pool_is_done_in_the_lane_of_whoever_submitted_it(pool) -> None:
    # Started in one lane, the pool's threads serve both.
    with ss.entered(MARK):
        first = pool.submit(lane, shout=True)
    second = pool.submit(lane)
    assert first.result() == (MARK, True)
    assert second.result() == (None, False)


def test_map_keeps_the_lane_too(pool) -> None:
    with ss.entered(MARK):
        found = pool.map(lane, range(4))
    assert [mark for mark, _ in found] == [MARK] * 4


def test_a_function_on_a_thread_of_its_own_keeps_its_lane() -> None:
    seen: list[ss.Mark | None] = []
    with ss.entered(MARK):
        thread = threading.Thread(target=carried(lambda: seen.append(ss.current())))
    thread.start()
    thread.join()
    assert seen == [MARK]


def test_what_is_handed_over_in_the_normal_lane_is_normal_wherever_it_is_called() -> None:
    function = carried(lane)
    with ss.entered(MARK):
        assert function() == (None, False)
        assert ss.current() == MARK


def test_a_function_can_be_pickled_with_its_lane() -> None:
    with ss.entered(MARK):
        packed = pickle.dumps(carried(lane))
    assert pickle.loads(packed)() == (MARK, False)  # noqa: S301 - our own


def test_an_error_leaves_the_lane() -> None:
    def fails() -> None:
        raise LookupError("mine")

    with ss.entered(MARK):
        function = carried(fails)
    with pytest.raises(LookupError, match="mine"):
        function()
    assert ss.current() is None


def test_asyncio_carries_the_lane_by_itself() -> None:
    async def work() -> list[ss.Mark | None]:
        loop = asyncio.get_running_loop()
        called = loop.create_future()
        with ss.entered(MARK):
            task = asyncio.create_task(asyncio.sleep(0, ss.current()))
            on_thread = asyncio.create_task(asyncio.to_thread(ss.current))
            loop.call_later(0.01, lambda: called.set_result(ss.current()))
            with LaneExecutor(ThreadPoolExecutor(1)) as pool:
                in_executor = await loop.run_in_executor(pool, ss.current)
        return [await task, await on_thread, await called, in_executor]

    assert asyncio.run(work()) == [MARK] * 4


def test_shutting_down_shuts_the_inner_one_down() -> None:
    inner = ThreadPoolExecutor(1)
    LaneExecutor(inner).shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        inner.submit(lane)
