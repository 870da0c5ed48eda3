"""Both lanes as real processes: a flood, a stop, a kill."""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from shadowstream.lane import Lane
from tests.broker.rig import MARKED, eventually
from tests.broker.service import Service, alive, kill

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.broker.rig import Rig
    from tests.broker.service import Entry

pytest_plugins = ["tests.broker.rig"]

NORMAL = [f"n{number}" for number in range(200)]
SHADOW = [f"s{number}" for number in range(10_000)]

HANGING = """
@worker.handles("{topic}")
def handler(message):
    while message.lane == "shadow" and os.path.exists("hang"):
        note(message, "hangs")
        time.sleep(3600)
    note(message)
"""


AT_ONCE = {"group.instance.id": "one"}


def offsets(entries: Iterable[Entry]) -> dict[int, list[int]]:
    """Return the offsets of each partition in the order they were handled."""
    order: dict[int, list[int]] = defaultdict(list)
    for entry in entries:
        order[entry.partition].append(entry.offset)
    return order


def flooded(rig: Rig, topic: str) -> None:
    """Produce fifty shadow messages around each normal one, in every partition."""
    for number, value in enumerate(NORMAL):
        for each in SHADOW[50 * number : 50 * number + 50]:
            rig.producer.produce(topic, each, headers=[*MARKED], partition=number % 2)
        rig.producer.produce(topic, value, partition=number % 2)
        rig.producer.poll(0)
    assert rig.producer.flush(30) == 0


def test_fifty_times_the_traffic_in_shadow_and_its_handler_hanging_lose_repeat_or_reorder_no_normal_message(
    rig: Rig,
) -> None:
    topic = rig.topic(partitions=2)
    (rig.folder / "hang").touch()
    rig.begin(topic)
    flooded(rig, topic)
    app, sections = HANGING.format(topic=topic), {"shadow.worker": {"drain": "200ms"}}
    with Service(rig, app, {topic: {"order": "partition", "concurrency": 4}}, **sections) as service:
        eventually(lambda: service.journal(Lane.SHADOW, "hangs"), "a shadow handler that hangs")
        eventually(lambda: len(service.journal(Lane.NORMAL)) == len(NORMAL), "every normal message handled")
        assert service.journal(Lane.SHADOW) == []
        service.signal()
        assert service.stopped() == 4, "the shadow lane says that a handler outlived the drain"
        assert rig.caught_up(Lane.NORMAL, topic)

        (rig.folder / "hang").unlink()
        service.start()
        rig.send(topic, ["after"])
        eventually(lambda: "after" in service.done(Lane.NORMAL), "normal goes on after the restart")
        eventually(lambda: len(service.journal(Lane.SHADOW)) >= len(SHADOW), "every shadow message handled")
        service.signal()
        assert service.stopped() == 0

    assert service.done(Lane.NORMAL) == dict.fromkeys([*NORMAL, "after"], 1)
    assert service.done(Lane.SHADOW) == dict.fromkeys(SHADOW, 1)
    for lane in Lane:
        assert all(order == sorted(order) for order in offsets(service.journal(lane)).values())


HOLDING = """
seen = 0


@worker.handles("{topic}")
def handler(message):
    global seen
    note(message)
    seen += 1
    while seen > 150 and os.path.exists("hold"):
        time.sleep(0.02)
"""


def killed(rig: Rig, lane: Lane, **kafka: str) -> None:
    """Kill one lane's process among its work; what it left undone is done by the next one, and nothing else again."""
    other = Lane.SHADOW if lane is Lane.NORMAL else Lane.NORMAL
    topic = rig.topic(partitions=2)
    sent = {each: [f"{each}-{number}" for number in range(300)] for each in Lane}
    rig.begin(topic)
    rig.send(topic, sent[Lane.NORMAL])
    rig.send(topic, sent[Lane.SHADOW], MARKED)
    (rig.folder / "hold").touch()

    with Service(rig, HOLDING.format(topic=topic), {topic: {}}, kafka=kafka) as service:

        def uncommitted() -> list[Entry]:
            stands = rig.committed(rig.group_of(lane), topic)
            return [entry for entry in service.journal(lane) if entry.offset >= stands[entry.partition]]

        eventually(lambda: len(service.journal(lane)) == 151, "half of the messages handled")
        eventually(lambda: len(uncommitted()) == 1, "all committed but the one in flight")
        before, untouched = service.pid(lane), service.pid(other)
        assert before is not None
        kill(before)
        in_flight = [entry.value for entry in uncommitted()]
        (rig.folder / "hold").unlink()

        service.restarted(lane, before)
        eventually(lambda: all(set(service.done(each)) == set(sent[each]) for each in Lane), "everything handled")
        assert service.pid(other) == untouched
        service.signal()
        assert service.stopped() == 0

    assert service.done(lane) == Counter(sent[lane] + in_flight)
    assert service.done(other) == dict.fromkeys(sent[other], 1)


def test_a_killed_normal_process_is_started_again_and_loses_nothing(rig: Rig) -> None:
    killed(rig, Lane.NORMAL)


def test_a_killed_shadow_process_is_started_again_and_normal_feels_nothing(rig: Rig) -> None:
    # A static member is given its partitions back at once, without a wait for its session to end.
    killed(rig, Lane.SHADOW, **AT_ONCE)


PRODUCING = """
@worker.handles("{topic}")
def handler(message):
    producer.produce("{out}", message.value())
    note(message)


@worker.handles("{beside}")
def beside(message):
    note(message)
"""


def test_what_a_handler_produced_is_not_lost_when_its_process_is_killed_right_afterwards(rig: Rig) -> None:
    topic, out, beside = rig.topics("in", "out", "beside")
    rig.begin(topic, beside)
    values = [f"n{number}" for number in range(50)]
    rig.send(topic, values)
    app = PRODUCING.format(topic=topic, out=out, beside=beside)
    # The outputs lie in the client's queue for a minute, so they are surely undelivered when the process is killed.
    with Service(rig, app, {topic: {}, beside: {}}, kafka={"linger.ms": 60_000, **AT_ONCE}) as service:
        eventually(lambda: set(values) <= set(service.done(Lane.NORMAL)), "every message handled")
        rig.send(beside, ["later"])
        eventually(lambda: rig.caught_up(Lane.NORMAL, beside), "a commit of something handled later")
        standing = rig.committed(rig.group, topic)
        before = service.pid(Lane.NORMAL)
        assert before is not None
        kill(before)
        assert rig.ends(out) == {0: 0}, "delivered before the kill, so this showed nothing"

        service.kill()
        document = (rig.folder / "shadowstream.yaml").read_text()
        (rig.folder / "shadowstream.yaml").write_text(document.replace("60000", "5"))
        service.start()
        eventually(lambda: set(rig.values(out)) == set(values), "every output")
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the source committed after the delivery")

    assert standing == {0: 0}


def test_the_shadow_process_steps_back_from_the_processor_and_the_normal_one_does_not(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    # The rig asks for 0, so that tests are quick; here shadow has what it has when nobody says anything.
    sections = {"shadow.worker": {"nice": 10}}
    with Service(rig, HANGING.format(topic=topic), {topic: {}}, **sections) as service:
        rig.send(topic, ["n0"])
        rig.send(topic, ["s0"], MARKED)
        eventually(lambda: all(service.journal(lane) for lane in Lane), "both lanes at work")
        pids = {lane: service.pid(lane) or 0 for lane in Lane}
        claims = {lane: os.getpriority(os.PRIO_PROCESS, pid) for lane, pid in pids.items()}

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert claims == {Lane.NORMAL: own, Lane.SHADOW: own + 10}


WRONG = """
if os.environ.get("SHADOWSTREAM_LANE") == "shadow":
    raise SystemExit({code})


@worker.handles("{topic}")
def handler(message):
    note(message)
"""


def test_a_shadow_process_that_cannot_start_is_left_off_and_normal_goes_on(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    with Service(rig, WRONG.format(topic=topic, code=2), {topic: {}}) as service:
        eventually(lambda: "lane_off lane=shadow" in service.log(), "shadow off")
        eventually(lambda: service.done(Lane.NORMAL) == {"n0": 1}, "normal at work")
        service.signal()

        assert service.stopped() == 0
        assert service.log().count("lane_started lane=shadow") == 1


def test_a_shadow_process_that_dies_at_every_start_is_tried_again_and_normal_goes_on(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    with Service(rig, WRONG.format(topic=topic, code=1), {topic: {}}) as service:
        eventually(lambda: service.log().count("lane_started lane=shadow") == 2, "shadow tried again")
        eventually(lambda: service.done(Lane.NORMAL) == {"n0": 1}, "normal at work")
        service.signal()

        assert service.stopped() == 0
        assert service.log().count("lane_started lane=normal") == 1


def test_a_lane_ends_when_its_parent_was_killed(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    with Service(rig, HOLDING.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: service.done(Lane.NORMAL) == {"n0": 1}, "the lanes at work")
        lanes = [service.pid(lane) for lane in Lane]
        service.process.kill()
        service.process.wait()

        eventually(lambda: not any(alive(pid) for pid in lanes if pid is not None), "both lanes gone")

    assert None not in lanes
    assert rig.caught_up(Lane.NORMAL, topic), "and they drained first"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_both_lanes_finish_what_they_have_begun_and_exits_with_0(
    rig: Rig, number: signal.Signals
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    rig.send(topic, ["s0"], MARKED)
    with Service(rig, SLOW.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: all(service.journal(lane, "begun") for lane in Lane), "a handler at work in each lane")
        service.signal(number)
        # Nobody has to hurry: the handlers end when the test says so.
        (rig.folder / "end").touch()

        assert service.stopped() == 0

    assert [service.done(lane) for lane in Lane] == [{"n0": 1}, {"s0": 1}]
    assert rig.both_caught_up(topic)


SLOW = """
@worker.handles("{topic}")
def handler(message):
    note(message, "begun")
    while not os.path.exists("end"):
        time.sleep(0.02)
    note(message)
"""


def test_a_second_signal_ends_the_worker_at_once(rig: Rig) -> None:
    topic = rig.topic()
    (rig.folder / "hang").touch()
    rig.begin(topic)
    rig.send(topic, ["s0"], MARKED)
    with Service(rig, HANGING.format(topic=topic), {topic: {}}, worker={"drain": "1h"}) as service:
        eventually(lambda: service.journal(what="hangs"), "a handler that hangs")
        lanes = [service.pid(lane) for lane in Lane]
        service.signal()
        eventually(lambda: not alive(lanes[0] or 0), "the normal lane drained")
        assert service.process.poll() is None

        service.signal(signal.SIGINT)

        assert service.stopped() != 0
        assert not any(alive(pid or 0) for pid in lanes)
