"""Where a shadow lane begins that has never run before, and that nothing between is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from shadowstream.lane import Lane
from tests.broker.rig import MARKED, eventually, text_of
from tests.broker.service import Service, kill

if TYPE_CHECKING:
    import shadowstream as ss
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

STUCK = """
@worker.handles("{topic}")
def handler(message):
    note(message, "begun")
    while message.lane == "shadow" and os.path.exists("hang"):
        time.sleep(0.02)
    note(message)
"""

LATE = """
while os.environ.get("SHADOWSTREAM_LANE") == "shadow" and os.path.exists("late"):
    time.sleep(0.02)


@worker.handles("{topic}")
def handler(message):
    note(message)
"""


def mixed(rig: Rig, topic: str, count: int) -> None:
    """Produce normal and shadow messages by turns: the value is the offset."""
    for number in range(count):
        rig.send(topic, [number], MARKED if number % 2 else None)


def test_the_first_start_of_the_shadow_group_begins_where_the_normal_group_stands(rig: Rig) -> None:
    topic, elsewhere = rig.topics("in", "elsewhere")
    mixed(rig, topic, 10)
    mixed(rig, elsewhere, 4)
    rig.commit(rig.group, {rig.places(topic)[0]: 5})
    worker = rig.worker(rig.settings({topic: {}, elsewhere: {}}))
    handled: list[tuple[str, str, str]] = []
    for each in (topic, elsewhere):
        worker.handles(each)(lambda message: handled.append((message.lane, message.topic(), text_of(message))))

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")

    here = [(lane, value) for lane, where, value in handled if where == topic]
    assert [value for lane, value in here if lane == "normal"] == ["6", "8"]
    assert [value for lane, value in here if lane == "shadow"] == ["5", "7", "9"]


def test_a_second_start_of_the_shadow_group_begins_where_it_stood_itself(rig: Rig) -> None:
    topic = rig.topic()
    mixed(rig, topic, 10)
    (place,) = rig.places(topic)
    rig.commit(rig.group, {place: 8})
    rig.commit(rig.group_of(Lane.SHADOW), {place: 2})
    worker = rig.worker(rig.settings({topic: {}}), "shadow")
    handled: list[str] = []
    worker.handles(topic)(lambda message: handled.append(text_of(message)))

    with worker:
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow at the end")

    assert handled == ["3", "5", "7", "9"]


def test_a_shadow_lane_stuck_on_its_very_first_message_and_killed_begins_there_again(rig: Rig) -> None:
    topic = rig.topic()
    mixed(rig, topic, 10)
    rig.commit(rig.group, {rig.places(topic)[0]: 5})
    (rig.folder / "hang").touch()
    # A static member is given its partitions back at once, without a wait for its session to end.
    with Service(rig, STUCK.format(topic=topic), {topic: {}}, kafka={"group.instance.id": "one"}) as service:
        eventually(lambda: service.journal(Lane.SHADOW, "begun"), "shadow stuck on its first message")
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "normal far ahead")
        before = service.pid(Lane.SHADOW)
        assert before is not None
        kill(before)
        (rig.folder / "hang").unlink()
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow at the end as well")

        assert [entry.value for entry in service.journal(Lane.SHADOW)] == ["5", "7", "9"]


def test_where_the_shadow_group_begins_is_committed_before_anything_is_handled(rig: Rig) -> None:
    topic = rig.topic()
    mixed(rig, topic, 10)
    rig.commit(rig.group, {rig.places(topic)[0]: 5})
    worker = rig.worker(rig.settings({topic: {}}, worker={"commit_every": "1h", "drain": "100ms"}), "shadow")
    begun, done = threading.Event(), threading.Event()

    @worker.handles(topic)
    def handler(_: ss.Message) -> None:
        begun.set()
        done.wait()

    # Somebody else has the partition at first, so that the worker is given it long after its first, idle commit.
    holder = rig.member(Lane.SHADOW, topic)
    eventually(lambda: holder.poll(0) or holder.assignment(), "the holder given the partition")
    with worker:
        eventually(lambda: holder.poll(0) or rig.heard.rebalances(Lane.SHADOW), "the worker in the group")
        assert rig.heard.assigned(Lane.SHADOW) == set()
        holder.close()
        eventually(begun.is_set, "shadow stuck on its first message")
        standing = rig.committed(rig.group_of(Lane.SHADOW), topic)
        done.set()

    assert standing == {0: 5}


def test_when_both_lanes_start_for_the_first_time_a_late_shadow_process_loses_nothing(rig: Rig) -> None:
    topic = rig.topic()
    mixed(rig, topic, 10)
    (rig.folder / "late").touch()
    with Service(rig, LATE.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "normal at the end")
        (rig.folder / "late").unlink()
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow at the end")

        assert [entry.value for entry in service.journal(Lane.SHADOW)] == ["1", "3", "5", "7", "9"]
