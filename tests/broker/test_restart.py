"""What is finished above a stuck message is not repeated: not by a new owner, not after a kill -9."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition

from shadowstream.events import Uncovered
from shadowstream.kafka.offsets import Done
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, eventually, text_of
from tests.broker.service import Service
from tests.broker.test_rebalance import PROTOCOLS

if TYPE_CHECKING:
    import shadowstream as ss
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

KEYED = {"concurrency": 4, "order": "key"}
# A static member is given its partitions back at once, without a wait for its session to end.
AT_ONCE = {"group.instance.id": "restart"}

STUCK = """
@worker.handles("{topic}")
def handler(message):
    note(message, "begun")
    if message.value() == b"stuck" and os.path.exists("stuck"):
        threading.Event().wait()
    note(message)
"""


def metadata(rig: Rig, group: str, topic: str) -> tuple[int, str]:
    """Return where a group stands in a topic's one partition, and what its commit says."""
    (place,) = rig._of_group(group).committed([TopicPartition(topic, 0)], timeout=DEADLINE_S)
    return place.offset, place.metadata or ""


def laid_out(rig: Rig, topic: str, headers: Any = None) -> list[str]:
    rig.send(topic, ["stuck"], headers, key="a")
    values = [f"n{number}" for number in range(300)]
    for number, value in enumerate(values):
        rig.producer.produce(topic, value, key=f"k{number % 50}", headers=headers)
    assert rig.producer.flush(DEADLINE_S) == 0
    return values


@pytest.mark.parametrize("lane", list(Lane))
def test_a_killed_process_repeats_nothing_of_what_was_finished_above_a_stuck_message(rig: Rig, lane: Lane) -> None:
    topic = rig.topic()
    rig.begin(topic)
    values = laid_out(rig, topic, [*MARKED] if lane is Lane.SHADOW else None)
    (rig.folder / "stuck").touch()
    with Service(rig, STUCK.format(topic=topic), {topic: KEYED}, kafka=AT_ONCE) as service:
        eventually(lambda: set(values) <= set(service.done(lane)), "everything but the stuck message")
        eventually(
            lambda: len([n for n in range(1, 301) if n in said(rig, lane, topic)]) == 300, "a commit that says so"
        )
        assert metadata(rig, rig.group_of(lane), topic)[0] == 0
        service.kill()
        (rig.folder / "stuck").unlink()
        service.start()
        eventually(lambda: rig.caught_up(lane, topic), "everything answered for")
        assert service.done(lane) == dict.fromkeys([*values, "stuck"], 1)


def said(rig: Rig, lane: Lane, topic: str) -> Done:
    offset, text = metadata(rig, rig.group_of(lane), topic)
    return Done.read(text, offset)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_new_owner_repeats_only_what_was_not_finished(rig: Rig, protocol: str) -> None:
    topic = rig.topic()
    rig.begin(topic)
    values = laid_out(rig, topic)
    settings = rig.settings({topic: KEYED}, kafka=PROTOCOLS[protocol], worker={"revoke": "200ms", "drain": "200ms"})
    released, seen = threading.Event(), []

    def worker() -> ss.Worker:
        made = rig.worker(settings, "normal")

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            seen.append(text_of(message))
            if text_of(message) == "stuck":
                released.wait(DEADLINE_S)

        return made

    with worker():
        eventually(lambda: len(seen) == 301, "everything begun")
    assert metadata(rig, rig.group, topic)[0] == 0
    with worker():
        eventually(lambda: seen.count("stuck") == 2, "the stuck message in the hands of its new owner")
        released.set()
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "everything answered for")
    assert sorted(seen) == sorted([*values, "stuck", "stuck"])
    assert rig.heard.outcomes(Lane.NORMAL)["handled"] >= 301


@pytest.mark.parametrize("text", ["", "not ours", "ss1;00000000;0;400;xyz", "x" * 4095])
def test_metadata_that_is_not_ours_repeats_everything_and_stops_nothing(rig: Rig, text: str) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["a", "b", "c"])
    place = TopicPartition(topic, 0, 1, text)
    assert rig._of_group(rig.group).commit(offsets=[place], asynchronous=False)[0].error is None
    worker = rig.worker(rig.settings({topic: {}}), "normal")
    seen: list[str] = []
    worker.handles(topic)(lambda message: seen.append(text_of(message)))
    with worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the end")
    assert seen == ["b", "c"]


def test_the_gauge_says_how_many_messages_a_crash_would_repeat(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    # No commit until the drain: what is finished meanwhile would be repeated.
    worker = rig.worker(rig.settings({topic: KEYED}, worker={"commit_every": "1h"}), "normal")
    worker.handles(topic)(lambda _: None)
    with worker:
        eventually(lambda: rig.heard.assigned(Lane.NORMAL), "the partition")
        rig.send(topic, range(40))

        def shown() -> list[int]:
            return [event.messages for event in list(rig.heard.events) if isinstance(event, Uncovered)]

        eventually(lambda: 40 in shown(), "all forty")
    assert rig.caught_up(Lane.NORMAL, topic)


def test_an_operator_who_resets_the_offsets_gets_everything_again(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["a", "b"])
    settings = rig.settings({topic: KEYED})
    seen: list[str] = []
    for _ in range(2):
        worker = rig.worker(settings, "normal")
        worker.handles(topic)(lambda message: seen.append(text_of(message)))
        with worker:
            eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the end")
        rig.commit(rig.group, dict.fromkeys(rig.places(topic), 0))
    assert sorted(seen) == ["a", "a", "b", "b"]


def test_a_message_settled_by_hand_is_read_again_unless_it_was_acknowledged(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["kept", "acked", "again", "later"])
    settings = rig.settings({topic: {}}, worker={"drain": "200ms"})
    seen: list[str] = []
    first = rig.worker(settings, "normal")

    @first.handles(topic, settle="by_hand")
    def handler(message: ss.Message) -> None:
        value = text_of(message)
        seen.append(value)
        if value == "again" and seen.count("again") == 1:
            message.nack(0.2)
        elif value != "kept":
            threading.Timer(0.1, message.ack).start()

    with first:
        eventually(lambda: seen.count("again") == 2, "the message that was asked for again")
        eventually(lambda: all(offset in said(rig, Lane.NORMAL, topic) for offset in (1, 2, 3)), "three answered for")
    assert rig.committed(rig.group, topic) == {0: 0}
    second = rig.worker(settings, "normal")
    second.handles(topic)(lambda message: seen.append(text_of(message)))
    with second:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the end")
    assert seen == ["kept", "acked", "again", "later", "again", "kept"]
    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 4}


def test_batches_are_handled_in_both_lanes_and_a_bad_message_goes_alone(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    values = [f"n{number}" for number in range(40)]
    rig.send(topic, values)
    rig.send(topic, values, MARKED)
    worker = rig.worker(rig.settings({topic: {"retries": 0}}))
    seen: dict[str, list[str]] = {lane.value: [] for lane in Lane}
    sizes: list[int] = []

    @worker.handles(topic, batch=10)
    async def handler(batch: list[ss.Message]) -> None:
        if any(text_of(message) == "n7" for message in batch):
            raise ValueError
        sizes.append(len(batch))
        seen[batch[0].lane] += map(text_of, batch)

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
    good = [value for value in values if value != "n7"]
    assert seen == {"normal": good, "shadow": good}
    assert max(sizes) == 10
    assert rig.values(f"{topic}.dlq") == rig.values(f"{topic}.shadow.dlq") == ["n7"]
    assert rig.heard.outcomes(Lane.NORMAL) == rig.heard.outcomes(Lane.SHADOW) == {"handled": 39, "failed": 1}


def test_an_async_handler_runs_many_messages_at_once_and_one_that_takes_too_long_fails_alone(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["hangs", *range(50)])
    settings = rig.settings(
        {topic: {"concurrency": 64, "order": "none", "retries": 0}}, resilience={"claim": {"timeout": "500ms"}}
    )
    worker = rig.worker(settings, "normal")
    inside, most, loops = 0, 0, set()

    @worker.handles(topic, command="claim")
    async def handler(message: ss.Message) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        loops.add(asyncio.get_running_loop())
        try:
            await asyncio.sleep(60 if text_of(message) == "hangs" else 0.05)
        finally:
            inside -= 1

    with worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the end")
    assert most > 25
    assert len(loops) == 1
    assert rig.values(f"{topic}.dlq") == ["hangs"]
    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 50, "failed": 1}
