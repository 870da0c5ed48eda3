"""The numbers on the services' pages, and what each service of a run is told."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from shadowstream.config import load
from shadowstream.errors import SetupError
from shadowstream.events import Carried, GateLevel, Outcome, Rebalanced, Transition
from shadowstream.fcst import services
from shadowstream.fcst.demo.phases import Plan
from shadowstream.fcst.demo.setup import environment, shared_environment
from shadowstream.fcst.services import Numbers, checkout, port_pairs, read_page
from shadowstream.fcst.topics import RunTopics
from shadowstream.lane import Lane
from shadowstream.metrics import PrometheusHook, serve

HOME = Path(__file__).parents[3]
CLUSTER = RunTopics("localhost:1", "demo-12ab34.")


def test_a_page_of_our_own_metrics_is_read_number_for_number() -> None:
    hook = PrometheusHook()
    counted = {Outcome.HANDLED: 5, Outcome.EXPIRED: 2}
    hook.on(Carried(Lane.SHADOW, "voucher.used", 0, "voucher.settle", counted, 7, {"wait": 3, "admit": 5}))
    hook.on(GateLevel(Lane.SHADOW, "voucher.settle", "half-open", 1.0, 0))
    hook.on(Transition(Lane.SHADOW, "voucher.settle", "closed", "open", "slow_rate"))
    hook.on(Rebalanced(Lane.SHADOW, "assigned", (("voucher.used", 0),)))
    hook.on(Rebalanced(Lane.SHADOW, "revoked", (("voucher.used", 0),)))
    server = serve(hook, 0, "127.0.0.1")
    assert server is not None
    numbers = Numbers()
    try:
        read_page(services.page(server.port) or "", "ss_business", numbers)
    finally:
        server.close()

    assert numbers.outcomes_of("voucher.used", Lane.SHADOW) == {"handled": 5, "expired": 2}
    assert numbers.stepped_over == {("voucher.used", Lane.SHADOW): 7}
    assert numbers.waits == {("voucher.settle", Lane.SHADOW): 3}
    assert numbers.breakers == {("voucher.settle", Lane.SHADOW): "open"}
    assert numbers.opened == {("voucher.settle", Lane.SHADOW): 1}
    assert numbers.assigned == {("ss_business", Lane.SHADOW)}
    assert numbers.taken_away == 1


def test_a_page_that_nobody_serves_is_missing_and_no_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))

        assert services.page(closed.getsockname()[1]) is None


def test_ports_come_in_pairs_that_do_not_overlap() -> None:
    pairs = port_pairs(5)

    assert len({port for first in pairs for port in (first, first + 1)}) == 10


def test_no_port_is_one_that_the_kernel_gives_to_clients() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())

    assert max(port_pairs(5)) + 1 < first


def test_the_services_are_found_in_a_checkout() -> None:
    assert checkout() == HOME


def test_without_a_checkout_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services, "importlib", _NothingInstalled)
    monkeypatch.setattr("sys.path", ["nowhere"])

    with pytest.raises(SetupError, match="from a checkout"):
        checkout()


class _NothingInstalled:
    class util:  # noqa: N801 - stands for importlib.util
        @staticmethod
        def find_spec(_name: str) -> None:
            return None


@pytest.mark.parametrize("name", services.SERVICES)
def test_on_a_shared_cluster_a_service_has_topics_and_groups_of_its_own(name: str) -> None:
    file = HOME / "consumers" / name / "shadowstream.yaml"
    told = environment(HOME, name, CLUSTER, Plan("localhost:1", 40, 45), Path("stuck"))

    plain, own = load(file, environ={}), load(file, environ=told, strict=True)

    (topic,) = plain.normal.topics
    for lane in Lane:
        ours = own.of(lane).topics[f"demo-12ab34.{topic}"]
        assert ours.concurrency == plain.of(lane).topics[topic].concurrency
        assert own.of(lane).kafka["group.id"] == f"demo-12ab34.{plain.of(lane).kafka['group.id']}"
        assert own.of(lane).data["redis"]["url"] == "memory://"


def test_only_the_shadow_lane_of_one_service_can_hang() -> None:
    told = {
        name: environment(HOME, name, RunTopics("localhost:1"), Plan(None, 40, 45), Path("stuck"))
        for name in services.SERVICES
    }
    hangs = [
        (name, lane)
        for name in services.SERVICES
        for lane in Lane
        for task in load(HOME / "consumers" / name / "shadowstream.yaml", environ=told[name]).of(lane).tasks.values()
        if task and "hangs_while" in task
    ]

    assert hangs == [("taskv2", Lane.SHADOW)]


def test_a_redis_of_the_users_own_is_not_replaced_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWSTREAM__DATA__REDIS__URL", "redis://there:6379/1")

    told = environment(HOME, "taskv2", RunTopics("localhost:1"), Plan(None, 40, 45), Path("stuck"))

    assert "SHADOWSTREAM__DATA__REDIS__URL" not in told
    assert told["SHADOWSTREAM__DATA__SHADOW.REDIS__URL"] == "memory://"


def test_the_settings_of_a_prefixed_topic_are_those_of_the_plain_one() -> None:
    file = HOME / "consumers" / "taskv2" / "shadowstream.yaml"

    told = shared_environment(file, "taskv2", CLUSTER)

    rule = json.loads(told["SHADOWSTREAM__TOPICS__demo-12ab34.voucher.dispatched"])
    assert rule["shadow"]["max_messages"] == 2000


def test_topics_of_a_run_are_told_by_their_plain_names() -> None:
    assert CLUSTER.plain("demo-12ab34.voucher.used") == "voucher.used"
    assert "demo-12ab34.voucher.used.shadow.parked" in CLUSTER.all
    assert len(set(CLUSTER.all)) == 3 + 2 + 12
