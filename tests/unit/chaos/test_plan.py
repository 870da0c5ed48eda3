"""The plan of chaos: its seed decides everything."""

from __future__ import annotations

from collections import Counter

from tests.chaos.faults import Hands
from tests.chaos.plan import CLUSTER_FAULTS, PROTOCOLS, WORKER_FAULTS, Fault, planned


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert planned(7, 24) == planned(7, 24)
    assert planned(7, 24).cluster != planned(8, 24).cluster


def test_a_plan_says_its_seed_its_protocol_and_every_fault() -> None:
    plan = planned(3, 10)
    text = str(plan)

    assert f"seed 3: {plan.protocol}" in text
    assert all(str(fault) in text for fault in (*plan.cluster, *plan.workers))


def test_ten_seeds_have_more_than_two_hundred_faults_every_kind_and_every_protocol() -> None:
    plans = [planned(seed, 24) for seed in range(1, 11)]
    kinds = Counter(fault.kind for plan in plans for fault in (*plan.cluster, *plan.workers))

    assert kinds.total() == 240
    assert kinds.keys() == CLUSTER_FAULTS.keys() | WORKER_FAULTS.keys()
    assert {plan.protocol for plan in plans} == set(PROTOCOLS)


def test_every_fault_can_be_done() -> None:
    assert all(callable(getattr(Hands, kind)) for kind in CLUSTER_FAULTS | WORKER_FAULTS)


def test_a_pick_falls_on_every_choice_and_never_beside_them() -> None:
    picks = [Fault("any", 0, 0, pick / 100).one_of(["a", "b", "c"]) for pick in range(101)]

    assert set(picks) == {"a", "b", "c"}
