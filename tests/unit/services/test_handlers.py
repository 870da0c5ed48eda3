"""Each service's handler: what it does to a voucher, and that doing it twice doubles nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Message as RawMessage

import shadowstream as ss
from tests.unit.services.conftest import RUN, claimed, handled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    Loaded = Callable[[str], ModuleType]

STEPS = [
    ("uservoucher", "dispatch", "dispatched", "voucher.dispatched"),
    ("taskv2", "use", "used", "voucher.used"),
]


@pytest.mark.parametrize(("name", "handler", "step", "topic"), STEPS)
@pytest.mark.parametrize("mark", [None, RUN])
def test_a_voucher_takes_its_step_and_goes_on_in_its_lane(
    service: Loaded, name: str, handler: str, step: str, topic: str, mark: ss.Mark | None
) -> None:
    app = service(name)

    handled(getattr(app, handler), claimed("v1", mark))

    lane = ss.Lane.NORMAL if mark is None else ss.Lane.SHADOW
    voucher = {"voucher_id": "v1", "user_id": "u1", "promotion_id": "p1"}
    assert app.producer.messages == [(topic, b"v1", voucher, lane)]
    with ss.entered(mark):
        assert app.vouchers.store().reached("v1") == {step}


@pytest.mark.parametrize(("name", "handler", "step", "topic"), STEPS)
def test_a_voucher_that_comes_twice_counts_once_and_goes_on_twice(
    service: Loaded, name: str, handler: str, step: str, topic: str
) -> None:
    app = service(name)

    for _ in range(2):
        handled(getattr(app, handler), claimed("v1"))

    assert app.vouchers.store().count("p1", step) == 1
    assert [each[0] for each in app.producer.messages] == [topic, topic]


def test_shadow_vouchers_are_in_a_store_of_their_own(service: Loaded) -> None:
    app = service("uservoucher")

    handled(app.dispatch, claimed("v1", RUN))

    assert app.vouchers.store().reached("v1") == set()
    assert app.vouchers.store().count("p1", "dispatched") == 0


@pytest.mark.parametrize(("mark", "share"), [(None, 10), (RUN, 5)])
def test_one_voucher_in_so_many_is_cancelled_as_each_lane_is_set(
    service: Loaded, mark: ss.Mark | None, share: int
) -> None:
    app = service("ss_business")

    for number in range(1000):
        handled(app.settle, claimed(f"v{number}", mark))

    topics = [each[0] for each in app.producer.messages]
    assert len(topics) == 1000
    assert topics.count("voucher.cancelled") == pytest.approx(1000 / share, rel=0.25)
    assert topics.count("voucher.settled") == 1000 - topics.count("voucher.cancelled")


def test_a_voucher_that_comes_twice_is_closed_the_same_way(service: Loaded) -> None:
    app = service("ss_business")

    for number in [*range(100), *range(100)]:
        handled(app.settle, claimed(f"v{number}"))

    store = app.vouchers.store()
    assert store.count("p1", "settled") + store.count("p1", "cancelled") == 100


def test_a_message_that_is_no_voucher_fails_and_says_where_it_lies(service: Loaded) -> None:
    app = service("uservoucher")
    raw = RawMessage(topic="voucher.claimed", partition=1, offset=7, value=b"{", key=b"v1")

    with pytest.raises(ValueError, match=r"voucher\.claimed\[1\]@7"):
        app.dispatch(ss.Message(raw))
    assert app.producer.messages == []


def test_the_hang_switch_holds_shadow_and_never_normal(
    service: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "stuck"
    switch.touch()
    monkeypatch.setenv("SHADOWSTREAM__TASKS__SHADOW.VOUCHER.USE__HANGS_WHILE", str(switch))
    app = service("taskv2")
    shadow = threading.Thread(target=handled, args=(app.use, claimed("s1", RUN)))
    shadow.start()

    handled(app.use, claimed("n1"))

    assert [each[1] for each in app.producer.messages] == [b"n1"]
    switch.unlink()
    shadow.join(timeout=5)
    assert not shadow.is_alive()
    assert [each[1] for each in app.producer.messages] == [b"n1", b"s1"]


def test_work_takes_as_long_as_its_lane_is_set(service: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWSTREAM__TASKS__SHADOW.VOUCHER.USE__WORK_S", "0.2")
    app = service("taskv2")

    started = time.monotonic()
    handled(app.use, claimed("n1"))
    normal_s = time.monotonic() - started
    handled(app.use, claimed("s1", RUN))

    assert normal_s < 0.2
    assert time.monotonic() - started - normal_s >= 0.2


def test_each_service_handles_its_topic_in_both_lanes(service: Loaded) -> None:
    sources = {name: service(name).worker.topics() for name in ("uservoucher", "taskv2", "ss_business")}

    assert "voucher.claimed" in sources["uservoucher"]
    assert "voucher.dispatched" in sources["taskv2"]
    assert "voucher.used.shadow.dlq" in sources["ss_business"]


def test_a_prefix_sets_a_deployment_of_the_chain_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from consumers import chain

    monkeypatch.setenv("VOUCHER_TOPIC_PREFIX", "blue.")
    try:
        assert importlib.reload(chain).CLAIMED == "blue.voucher.claimed"
    finally:
        monkeypatch.delenv("VOUCHER_TOPIC_PREFIX")
        importlib.reload(chain)


def test_a_lane_without_a_port_is_not_watched() -> None:
    from consumers.chain import watched

    assert watched(None) == []
