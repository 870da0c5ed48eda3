"""A limit for each user in front of a topic's handler, in each lane by its own rule."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import shadowstream as ss
from shadowstream.errors import SetupError
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, eventually

if TYPE_CHECKING:
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

# So slow that no test sees a second message of one user pass.
LIMIT = {
    "claim": {"keys": ["user_id"], "hard": "1000/s"},
    "shadow.claim": {"hard": "1/h", "burst": 2, "overrides": {"user_id": {"vip": None}}, "missing": "refuse"},
}


def test_each_user_has_a_limit_of_his_own_and_normal_never_meets_shadow_s(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings({topic: {"shadow": {"on_limit": "shed"}}}, multi_key_rate_limit_v2=LIMIT)
    worker = rig.worker(settings)
    handled: dict[Lane, Counter[object]] = {lane: Counter() for lane in Lane}

    @worker.handles(topic, command="claim")
    def handler(message: ss.Message) -> None:
        handled[message.lane][message.json().get("user_id")] += 1

    users: list[object] = [*["hot"] * 20, *["vip"] * 20, 7, "7", 7, 8, None]
    values = [json.dumps({"user_id": user}) for user in users]
    rig.send(topic, values, MARKED)
    rig.send(topic, values)
    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
    assert handled[Lane.NORMAL] == Counter(users)
    assert handled[Lane.SHADOW] == {"hot": 2, "vip": 20, 7: 1, "7": 1, 8: 1}
    assert rig.heard.outcomes(Lane.SHADOW) == {"handled": 25, "shed": 20}


def test_the_thin_consumer_limits_each_user_too(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {"shadow": {"on_limit": "shed"}}}, multi_key_rate_limit_v2=LIMIT)
    rig.send(topic, [json.dumps({"user_id": user}) for user in [*["hot"] * 5, "cold"]], MARKED)
    seen: Counter[object] = Counter()
    with ss.Consumer(settings, [topic], commands={topic: "claim"}, hooks=[rig.heard]) as consumer:
        while sum(rig.heard.outcomes(Lane.SHADOW).values()) < 6:
            if (message := consumer.poll(0.1)) is not None:
                with consumer.lane_of(message):
                    seen[message.json()["user_id"]] += 1
    assert seen == {"hot": 2, "cold": 1}


def test_a_batch_behind_a_limit_by_keys_is_refused_where_the_worker_starts(rig: Rig) -> None:
    topic = rig.topic()
    worker = rig.worker(rig.settings({topic: {}}, multi_key_rate_limit_v2=LIMIT), "normal")

    @worker.handles(topic, command="claim", batch=10)
    def handler(_: list[ss.Message]) -> None: ...

    with pytest.raises(SetupError, match="looks at one message at a time; leave batch out"):
        worker.start()
