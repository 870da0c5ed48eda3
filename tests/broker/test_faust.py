"""Faust on a real broker, a process for each lane: its agents, what they send, its tables, the gates, bad input."""

from __future__ import annotations

import random
import time
from functools import partial
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

import shadowstream as ss
from shadowstream.headers import MarkReader
from shadowstream.integrations.faust import lane_app
from shadowstream.lane import Lane
from tests.broker.faust_service import FaustService
from tests.broker.rig import MARKED, eventually, headers_of, text_of
from tests.broker.wire import produce

if TYPE_CHECKING:
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"

AGENT = """
@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        note(value)
"""

SENDING = """
out = raw("{out}")

@app.agent(raw("{topic}"))
async def first(stream):
    async for event in stream.events():
        await out.send(key=b"k", value=event.value)
        await event.forward(out)
        out.send_soon(value=event.value)
        note(event.value)
"""

COUNTING = """
counts = app.Table("counts", default=int, partitions=1)

@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream.group_by(lambda value: value[:1], name="initial"):
        counts[value[:1].decode()] += 1
        note(value)
"""

FAILING = """
@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        note(value)
        if value.startswith(b"bad"):
            raise LookupError(value)
"""

SLOW = """
import random

@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        await asyncio.sleep(random.random() * 0.004)
        note(value)
"""

HELD = """
@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        note(value, "begun")
        while value == b"held" and os.path.exists("held"):
            await asyncio.sleep(0.01)
        note(value)
"""

COUNTING_ALL = """
@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        note(value)
        note(str(app.monitor.messages_received_total), "received")
"""

TIMER = """
out = raw("{out}")

@app.timer(0.2)
async def tick():
    try:
        await out.send(value=b"tick")
    except ss.ShadowstreamError as error:
        note(str(error), "refused")
    else:
        note("tick", "sent")

@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        note(value)
"""


def handled(service: FaustService, lane: Lane, least: int) -> bool:
    return len(service.values(lane)) >= least


def both(service: FaustService, normal: list[str], shadow: list[str]) -> bool:
    return (service.values(Lane.NORMAL), service.values(Lane.SHADOW)) == (normal, shadow)


def test_an_agent_is_in_the_lane_of_each_message(rig: Rig) -> None:
    topic = rig.topic()
    for number in range(5):
        rig.send(topic, [f"n{number}"])
        rig.send(topic, [f"s{number}"], [("x-shadow", b"1;run=run-%d" % (number % 2))])
    with FaustService(rig, AGENT.format(topic=topic), {topic: {}}) as service:
        normal, shadow = [f"n{number}" for number in range(5)], [f"s{number}" for number in range(5)]
        eventually(lambda: both(service, normal, shadow), "each is handled by its own lane")
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")
    runs = {each.value: each.run for each in service.noted()}
    assert runs == {f"n{number}": None for number in range(5)} | {f"s{n}": f"run-{n % 2}" for n in range(5)}


def test_faust_hardly_hears_of_the_other_lanes_messages(rig: Rig) -> None:
    topic = rig.topic()
    rig.send_both(topic, "first")
    rig.send(topic, range(1000), MARKED)
    rig.send(topic, ["last"])
    with FaustService(rig, COUNTING_ALL.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: service.values(Lane.NORMAL) == ["first", "last"], "normal handles its own")
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")
    assert len(service.values(Lane.SHADOW)) == 1001
    assert int(service.values(Lane.NORMAL, "received")[-1]) < 1003 / 20


def test_gaps_in_the_log_are_passed_over_in_both_lanes(rig: Rig) -> None:
    topic = rig.topic()
    producer = Producer({"bootstrap.servers": rig.bootstrap, "transactional.id": rig.group})
    producer.init_transactions(10)
    expected: dict[Lane, list[str]] = {lane: [] for lane in Lane}
    for number in range(12):
        # Each transaction ends in a marker, which has an offset and is no message.
        producer.begin_transaction()
        for lane in ([Lane.NORMAL], [Lane.SHADOW], list(Lane))[number % 3]:
            producer.produce(topic, str(number), headers=MARKED if lane is Lane.SHADOW else [])
            expected[lane].append(str(number))
        producer.commit_transaction(10)
    rig.send_both(topic, "last")
    with FaustService(rig, AGENT.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")
    for lane in Lane:
        assert service.values(lane) == [*expected[lane], "last"]


def test_what_an_agent_sends_carries_its_lane(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.send_both(topic, "v")
    with FaustService(rig, SENDING.format(topic=topic, out=out), {topic: {}, out: {}}) as service:
        eventually(lambda: both(service, ["v"], ["v"]), "both lanes handle it")
        eventually(lambda: sum(rig.ends(out).values()) == 6, "all three ways of sending, in both lanes")
    reader = MarkReader()
    found = [reader.read(headers_of(message), time.time()) for message in rig.read(out)]
    marks = [each.mark for each in found if each.mark is not None]
    assert [(mark.run, mark.hop) for mark in marks] == [(RUN, 1)] * 3
    assert sum(each.mark is None for each in found) == 3
    assert not any(each.reason for each in found)


def test_a_table_and_a_repartitioned_stream_stay_in_their_lane(rig: Rig) -> None:
    topic = rig.topic()
    rig.send_both(topic, "a1", "b1", "a2")
    with FaustService(rig, COUNTING.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: all(sorted(service.values(lane)) == ["a1", "a2", "b1"] for lane in Lane), "both lanes count")
        changelogs = {lane: f"{rig.group_of(lane)}-counts-changelog" for lane in Lane}
        eventually(lambda: all(sum(rig.ends(each).values()) == 3 for each in changelogs.values()), "both are written")
    assert {each.run for each in service.noted() if each.process == "shadow"} == {RUN}
    assert {each.run for each in service.noted() if each.process == "normal"} == {None}
    for lane, changelog in changelogs.items():
        marked = ["x-shadow" in dict(headers_of(message)) for message in rig.read(changelog)]
        assert marked == [lane is Lane.SHADOW] * 3


def test_shadow_has_a_topic_of_its_own_where_its_route_says_so(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, ["n"])
    rig.send(f"shadow.{topic}", ["s"], MARKED)
    rig.send(topic, ["astray"], MARKED)
    rig.send(f"shadow.{topic}", ["unmarked"])
    with FaustService(rig, AGENT.format(topic=topic), {topic: {"route": "topic"}}) as service:
        eventually(lambda: both(service, ["n"], ["s"]), "each lane reads its own topic")
        eventually(lambda: sum(rig.ends(f"{topic}.quarantine").values()) == 2, "what is in the wrong one is set aside")
    reasons = {text_of(each): dict(headers_of(each))["shadowstream-reason"] for each in rig.read(f"{topic}.quarantine")}
    assert reasons == {"astray": b"misrouted", "unmarked": b"unmarked"}


def test_a_shadow_message_passes_its_gate_first_and_normal_never_waits(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, [f"s{number}" for number in range(40)], MARKED)
    rig.send(topic, [f"n{number}" for number in range(40)])
    sections = {"rate_limit": {f"shadow.{topic}": {"hard": "1/m", "burst": 5}}}
    topics = {topic: {"shadow": {"on_limit": "park"}}}
    with FaustService(rig, AGENT.format(topic=topic), topics, **sections) as service:
        eventually(lambda: len(service.values(Lane.NORMAL)) == 40, "normal is not limited")
        eventually(lambda: sum(rig.ends(f"{topic}.shadow.parked").values()) == 35, "what is above the rate is parked")
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")
        assert len(service.values(Lane.SHADOW)) == 5


def test_a_shadow_message_that_waits_at_its_gate_is_not_acknowledged(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, ["s0", "s1"], MARKED)
    rig.send(topic, ["n0"])
    sections = {"rate_limit": {f"shadow.{topic}": {"hard": "1/h", "burst": 1}}}
    with FaustService(rig, AGENT.format(topic=topic), {topic: {}}, **sections) as service:
        eventually(lambda: both(service, ["n0"], ["s0"]), "one is admitted")
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "normal is done")
        eventually(lambda: rig.committed(rig.group_of(Lane.SHADOW), topic) == {0: 1}, "shadow stands before the other")


@pytest.mark.parametrize("before", [0, 3])
def test_a_message_that_was_at_work_when_its_process_died_is_handled_again(rig: Rig, before: int) -> None:
    topic = rig.topic(partitions=2)
    held = rig.folder / "held"
    held.touch()
    rig.send(topic, range(before), MARKED, partition=0)
    with FaustService(rig, HELD.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: len(service.values(Lane.SHADOW)) == before, "what comes before is handled")
        rig.send(topic, ["held"], MARKED, partition=0)
        eventually(lambda: "held" in service.values(Lane.SHADOW, "begun"), "shadow is at it")
        for partition in range(2):
            rig.send(topic, ["n0", "n1"], partition=partition)
        shadow = rig.group_of(Lane.SHADOW)
        eventually(lambda: rig.committed(shadow, topic).get(1, 0) > 0, "what is stepped over is committed elsewhere")
        assert rig.committed(shadow, topic).get(0, 0) <= before
        held.unlink()
        service.restart(Lane.SHADOW, SIGKILL)
        eventually(lambda: "held" in service.values(Lane.SHADOW), "it is handled after all")


def test_processes_that_die_stop_and_are_replaced_cost_no_message(rig: Rig) -> None:
    dice, topic = random.Random(1), rig.topic(partitions=4)
    sent: dict[Lane, list[str]] = {lane: [] for lane in Lane}
    with FaustService(rig, SLOW.format(topic=topic), {topic: {}}) as service:
        died, stopped = partial(service.restart, number=SIGKILL), partial(service.restart, number=SIGTERM)
        for ended in [died, stopped, service.replace] * 3:
            for number in range(40):
                # Some of one lane, then some of the other, so that each steps over while it is at work.
                for lane, headers in ((Lane.SHADOW, MARKED), (Lane.NORMAL, None)):
                    values = [f"{len(sent[lane]) + each}" for each in range(dice.randrange(1, 9))]
                    rig.send(topic, values, headers, partition=number % 4)
                    sent[lane] += values
            lane = dice.choice(list(Lane))
            enough = len(service.values(lane)) + dice.randrange(5, 60)
            eventually(partial(handled, service, lane, enough), "in the midst of the work")
            ended(lane)
        for lane in Lane:
            eventually(lambda lane=lane: {*service.values(lane)} == {*sent[lane]}, f"all of {lane} is handled")
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")


def test_an_agent_that_fails_opens_its_own_lanes_breaker(rig: Rig) -> None:
    topic = rig.topic()
    rig.send(topic, [f"bad{number}" for number in range(12)], MARKED)
    rig.send(topic, [f"n{number}" for number in range(6)])
    sections = {"resilience": {topic: {"min_calls": 3, "window": 10, "open_for": "1h"}}}
    topics = {topic: {"shadow": {"on_limit": "park"}}}
    with FaustService(rig, FAILING.format(topic=topic), topics, **sections) as service:
        eventually(lambda: len(service.values(Lane.NORMAL)) == 6, "normal's breaker stays closed")
        eventually(lambda: sum(rig.ends(f"{topic}.shadow.parked").values()) == 9, "shadow's is open after three")
    assert len(service.values(Lane.SHADOW)) == 3


def test_what_cannot_be_trusted_is_set_aside_and_stale_marks_are_stepped_over(rig: Rig) -> None:
    topic = rig.topic()
    for value, mark in (("junk", b"junk"), ("empty", b""), ("v9", b"v9;run=a"), ("stale", b"1;run=a;exp=1")):
        rig.send(topic, [value], [("x-shadow", mark)])
    rig.send(topic, ["two"], [("x-shadow", b"1;run=a"), ("x-shadow", b"1;run=b")])
    rig.send_both(topic, "good")
    with FaustService(rig, AGENT.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: both(service, ["good"], ["good"]), "both lanes go on")
        eventually(lambda: sum(rig.ends(f"{topic}.quarantine").values()) == 4, "the others are set aside")
    reasons = {text_of(each): dict(headers_of(each))["shadowstream-reason"] for each in rig.read(f"{topic}.quarantine")}
    expected = {"junk": b"malformed", "empty": b"empty", "v9": b"unknown_version", "two": b"conflict"}
    assert reasons == expected


def test_a_header_whose_name_is_no_text_stops_neither_lane(rig: Rig) -> None:
    topic = rig.topic()
    # All of it in one fetch: aiokafka loses what came before in a fetch that it refuses.
    rig.send_both(topic, "0")
    produce(rig.bootstrap, topic, b"poison", [(b"\xff\xfe", b"x")])
    produce(rig.bootstrap, topic, b"marked", [(b"\xff\xfe", b"x"), (b"x-shadow", b"1;run=a")])
    rig.send_both(topic, "1")
    with FaustService(rig, AGENT.format(topic=topic), {topic: {}}) as service:
        eventually(lambda: both(service, ["0", "1"], ["0", "1"]), "both lanes go on")
        eventually(lambda: sum(rig.ends(f"{topic}.quarantine").values()) == 2, "it is set aside")
        eventually(lambda: rig.both_caught_up(topic), "both lanes are done with all of it")
    copies = {text_of(each): dict(headers_of(each))["shadowstream-reason"] for each in rig.read(f"{topic}.quarantine")}
    assert copies == {"poison": b"unreadable", "marked": b"unreadable"}


def test_what_the_shadow_app_sends_outside_of_any_message_is_refused(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    with FaustService(rig, TIMER.format(topic=topic, out=out), {topic: {}, out: {}}) as service:
        eventually(lambda: service.values(Lane.SHADOW, "refused"), "the shadow app has no run for it")
        eventually(lambda: service.values(Lane.NORMAL, "sent"), "the normal app sends it")
    assert service.values(Lane.SHADOW, "sent") == []
    assert service.values(Lane.NORMAL, "refused") == []
    assert "without a run" in service.values(Lane.SHADOW, "refused")[0]
    assert not any(headers_of(message) for message in rig.read(out))


def test_batches_of_a_stream_are_refused_with_the_cure(rig: Rig) -> None:
    topic = rig.topic()
    app = lane_app(rig.settings({topic: {}}), Lane.SHADOW)
    stream = app.stream(app.topic(topic))
    for take in (stream.take, stream.take_events, stream.take_with_timestamp):
        with pytest.raises(ss.ShadowstreamError, match="batch="):
            take(10, within=1)


def test_no_app_is_made_for_a_shadow_lane_that_is_off(rig: Rig) -> None:
    settings = rig.settings({}, data={"redis": {"url": "redis://x"}})
    assert lane_app(settings, Lane.NORMAL).conf.id == rig.group
    with pytest.raises(ss.ConfigError, match="redis"):
        lane_app(settings, Lane.SHADOW)
