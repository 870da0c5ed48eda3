"""A sync handler that hangs past its timeout: an alarm, and everything else of its partition goes on (F10)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from shadowstream.events import Overdue, OverdueCalls
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, eventually, text_of

if TYPE_CHECKING:
    import shadowstream as ss
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]


@pytest.mark.parametrize("stuck", list(Lane))
def test_a_handler_that_hangs_raises_one_alarm_and_its_partition_and_the_other_lane_go_on(
    rig: Rig, stuck: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings(
        {topic: {"order": "key", "concurrency": 2}}, resilience={"claim": {"timeout": "200ms", "min_calls": 1000}}
    )
    worker = rig.worker(settings)
    door = threading.Event()
    seen: list[tuple[Lane, str]] = []

    @worker.handles(topic, command="claim")
    def handler(message: ss.Message) -> None:
        if text_of(message) == "stuck" and message.lane is stuck:
            door.wait(DEADLINE_S)
        seen.append((message.lane, text_of(message)))

    def send(values: list[str], key: str) -> None:
        for headers in (None, MARKED):
            rig.send(topic, values, headers, key=key)

    send(["stuck"], "a")
    with worker:
        send(["before"], "b")
        eventually(lambda: any(isinstance(event, Overdue) for event in rig.heard.events), "the alarm")
        send([f"n{number}" for number in range(20)], "b")
        for lane in Lane:
            eventually(lambda lane=lane: (lane, "n19") in seen, f"what was sent later, in lane {lane}")
        facts = [event for event in list(rig.heard.events) if isinstance(event, Overdue | OverdueCalls)]
        assert facts == [
            Overdue(stuck, topic, "claim", 0, 0 if stuck is Lane.NORMAL else 1),
            OverdueCalls(stuck, topic, 1),
        ]
        assert rig.committed(rig.group_of(stuck), topic)[0] <= (0 if stuck is Lane.NORMAL else 1)
        door.set()
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
        eventually(lambda: OverdueCalls(stuck, topic, 0) in list(rig.heard.events), "the alarm's end")
    assert rig.heard.outcomes(stuck) == {"handled": 22}
    assert len([line for line in caplog.messages if line.startswith("handler_overdue")]) == 1
