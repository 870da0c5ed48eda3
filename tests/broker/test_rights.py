"""What a lane may do is taken from it while it works: it says so and waits, and the other lane goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka.admin import AclOperation, ResourceType

from shadowstream.lane import Lane
from tests.broker.rig import MARKED, Rig, eventually, text_of

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["tests.broker.rig"]


def test_a_shadow_lane_whose_group_is_forbidden_stops_and_says_so_and_normal_goes_on(
    guarded_rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig, group = guarded_rig, guarded_rig.group_of(Lane.SHADOW)
    topic = rig.topic()
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {}}))
    handled: list[tuple[str, str]] = []
    worker.handles(topic)(lambda message: handled.append((message.lane, text_of(message))))

    with caplog.at_level(logging.WARNING), worker:
        rig.send_both(topic, "before")
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
        rig.deny(ResourceType.GROUP, group, AclOperation.READ)
        eventually(lambda: "GROUP_AUTHORIZATION_FAILED" in caplog.text, "a line about what is forbidden")
        rig.send_both(topic, "while")
        eventually(lambda: ("normal", "while") in handled, "normal goes on")
        rig.allow(ResourceType.GROUP, group)
        rig.send(topic, ["after"], MARKED)
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end again", 60.0)

    assert [value for lane, value in handled if lane == "normal"] == ["before", "while"]
    assert sorted({value for lane, value in handled if lane == "shadow"}) == ["after", "before", "while"]
