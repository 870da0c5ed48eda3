"""The vouchers' stores, one suite for each kind."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from consumers.state import MemoryStore, RedisStore, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.state import Store


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, unique: Callable[[str], str]) -> Store:
    if request.param == "memory":
        return MemoryStore()
    # What a store does with a slow server has a test of its own below; these should not depend on the machine's speed.
    return RedisStore(request.getfixturevalue("redis_url"), f"{unique('shadow')}:", timeout_s=30.0)


def test_a_step_counts_the_first_time_and_no_other(store: Store) -> None:
    assert store.reach("v1", "used", "p1") is True
    assert store.reach("v1", "used", "p1") is False

    assert store.count("p1", "used") == 1
    assert store.reached("v1") == {"used"}


def test_settled_and_cancelled_exclude_each_other(store: Store) -> None:
    assert store.reach("v1", "cancelled", "p1") is True
    assert store.reach("v1", "settled", "p1") is False

    assert store.reached("v1") == {"cancelled"}
    assert store.count("p1", "settled") == 0


def test_steps_may_come_in_any_order(store: Store) -> None:
    for step in ("settled", "dispatched", "used"):
        assert store.reach("v1", step, "p1") is True

    assert store.reached("v1") == {"dispatched", "used", "settled"}


def test_an_unknown_voucher_has_taken_no_step(store: Store) -> None:
    assert store.reached("nobody") == set()
    assert store.count("nothing", "used") == 0


def test_of_many_at_once_one_is_the_first(store: Store) -> None:
    firsts: list[bool] = []
    threads = [threading.Thread(target=lambda: firsts.append(store.reach("v1", "used", "p1"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert firsts.count(True) == 1
    assert store.count("p1", "used") == 1


def test_memory_forgets_the_oldest_voucher_past_its_bound() -> None:
    store = MemoryStore(max_vouchers=2)

    for number in range(3):
        store.reach(f"v{number}", "used", "p1")

    assert store.reached("v0") == set()
    assert store.reached("v2") == {"used"}


def test_a_sink_names_its_store() -> None:
    assert isinstance(opened({"url": "memory://"}), MemoryStore)
    assert isinstance(opened({"url": "redis://localhost:1/0", "prefix": "shadow:"}), RedisStore)


def test_a_redis_store_writes_only_under_its_prefix_and_for_a_time(
    redis_url: str, unique: Callable[[str], str]
) -> None:
    prefix = f"{unique('shadow')}:"
    with redis.Redis.from_url(redis_url) as client:
        before = set(client.keys("*"))
        RedisStore(redis_url, prefix, keep_s=60).reach("v1", "used", "p1")

        keys = set(client.keys("*")) - before
        assert keys
        assert all(key.startswith(prefix.encode()) for key in keys)
        assert all(0 < client.ttl(key) <= 60 for key in keys)


def test_a_crash_between_two_writes_heals_when_the_message_comes_again(
    redis_url: str, unique: Callable[[str], str]
) -> None:
    prefix = f"{unique('crash')}:"
    store = RedisStore(redis_url, prefix)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{prefix}voucher:v1", "used", "used")

    assert store.reach("v1", "used", "p1") is False
    assert store.count("p1", "used") == 1


def test_a_server_that_does_not_answer_costs_no_more_than_the_time_limit() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

        started = time.monotonic()
        with pytest.raises(redis.RedisError):
            store.reach("v1", "used", "p1")

        assert time.monotonic() - started < 1.0
