"""Topics that change under a running worker: made anew, cut at their beginning, given more partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from shadowstream.events import Troubled
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, eventually, text_of

if TYPE_CHECKING:
    import shadowstream as ss
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

# The client hears of a topic's changes with its next look at the cluster.
LOOKS = {"topic.metadata.refresh.interval.ms": 500}


def noting(worker: ss.Worker, topic: str) -> dict[Lane, list[str]]:
    """Handle a topic, and note what was handled in which lane."""
    handled: dict[Lane, list[str]] = {lane: [] for lane in Lane}

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        handled[message.lane].append(text_of(message))

    return handled


def test_a_topic_that_is_made_anew_is_read_from_its_beginning_and_committed(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {}}, kafka=LOOKS))
    handled = noting(worker, topic)
    old, new = [f"old {n}" for n in range(5)], [f"new {n}" for n in range(3)]
    with worker:
        rig.send_both(topic, *old)
        eventually(lambda: rig.both_caught_up(topic), "the old topic handled")
        rig.admin.delete_topics([topic])[topic].result(DEADLINE_S)
        eventually(lambda: {Lane.NORMAL, Lane.SHADOW} == troubled(rig, "UNKNOWN_TOPIC_OR_PART"), "it is told")
        rig.kafka.create_topics({topic: 1})
        rig.send_both(topic, *new)
        eventually(lambda: rig.both_caught_up(topic), "the new one committed")
    assert handled == {lane: [*old, *new] for lane in Lane}


def troubled(rig: Rig, name: str) -> set[Lane]:
    """Return the lanes that were told of an error."""
    return {each.lane for each in list(rig.heard.events) if isinstance(each, Troubled) and each.error == name}


def test_what_was_cut_off_while_nobody_read_is_passed_over_and_the_rest_is_handled(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send_both(topic, *map(str, range(5)))
    rig.admin.delete_records([TopicPartition(topic, 0, 7)])
    eventually(lambda: rig.starts(topic) == {0: 7}, "the beginning is gone")
    worker = rig.worker(rig.settings({topic: {}}))
    handled = noting(worker, topic)
    with worker:
        eventually(lambda: rig.both_caught_up(topic), "what is left")
    assert handled == {Lane.NORMAL: [], Lane.SHADOW: ["2", "3", "4"]}


def test_partitions_that_are_added_are_read_from_their_beginning_by_both_lanes(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {}}, kafka=LOOKS))
    handled = noting(worker, topic)
    with worker:
        rig.send_both(topic, "before")
        eventually(lambda: rig.both_caught_up(topic), "the first partition")
        rig.admin.create_partitions([NewPartitions(topic, 2)])[topic].result(DEADLINE_S)
        eventually(lambda: rig.kafka.led_partitions(topic) == 2, "a second one")
        rig.forget_clients()
        for headers in (None, MARKED):
            rig.send(topic, ["after"], headers, partition=1)
        eventually(lambda: len(rig.committed(rig.group, topic)) == 2 and rig.both_caught_up(topic), "the second too")
    assert handled == {lane: ["before", "after"] for lane in Lane}
