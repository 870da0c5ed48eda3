"""Where a lane begins: the first start of the shadow group is where the normal group stands.

Trap: when both lanes start for the first time, the normal one may have read on before the shadow one has asked. So the
shadow group's place is written before either starts
(``test_when_both_lanes_start_for_the_first_time_a_late_shadow_process_loses_nothing``). And where it begins is
committed at once as a number, also when normal stands nowhere yet: otherwise a rebalance before its first commit
would move it to where normal stands by then
(``test_a_shadow_lane_that_has_read_nothing_yet_begins_at_the_same_place_after_a_rebalance``). A retry topic is made by
its first message, and ``auto.offset.reset: latest`` would skip that
(``test_a_retry_topic_is_read_from_its_first_message_whatever_the_reset_says``). A partition that was added later has no
commit of the shadow group either, and normal may have read on in it before shadow is given it. It is told from one of a
new group by the topic's first partition: whoever is given that writes down where all of them begin, in one commit
(``test_a_partition_that_was_added_is_read_from_its_first_message_however_far_normal_is``). A topic that comes into
being while both lanes run has no commit either; whatever was written since this process began is not passed over
(``test_what_was_written_since_the_process_began_is_not_passed_over_however_far_normal_is``).
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from shadowstream.errors import BrokerError
from shadowstream.kafka.clients import QUIET, consumer_of, logger_of
from shadowstream.kafka.clock import REAL_CLOCK, Clock
from shadowstream.kafka.cursor import Beginning
from shadowstream.kafka.outlets import retry_topic
from shadowstream.kafka.worker.places import at_beginning, committed, not_after, partitions_of, pinned
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Consumer as RawConsumer

    from shadowstream.config import Settings

__all__ = ["seed", "start_at"]

log = logger_of("beginning")

SEED_S = 3.0
AGAIN_S = 0.1


def seed(settings: Settings, topics: Sequence[str]) -> None:
    """Write down where the shadow group begins, for partitions it has not read yet; a best effort of seconds."""
    shared = [topic for topic in topics if settings.topic(topic, Lane.SHADOW).source == topic]
    client = consumer_of(settings.of(Lane.SHADOW), **QUIET)
    until = time.monotonic() + SEED_S
    try:
        while error := _not_seeded(settings, client, shared):
            # A coordinator that is just being made says no at once, and yes a moment later.
            if time.monotonic() > until:
                log.warning("shadow_not_seeded error=%s", error)
                return
            time.sleep(AGAIN_S)
    finally:
        client.close()


def _not_seeded(settings: Settings, client: RawConsumer, topics: Sequence[str]) -> Exception | None:
    try:
        _seed(settings, client, topics)
    except (KafkaException, BrokerError) as error:
        return error
    return None


def _seed(settings: Settings, client: RawConsumer, topics: Sequence[str]) -> None:
    known = client.list_topics(timeout=SEED_S).topics
    partitions = [TopicPartition(topic, each) for topic in topics if topic in known for each in known[topic].partitions]
    new = [each for each in committed(client, partitions) if each.offset < 0]
    if not new:
        return
    with closing(consumer_of(settings.normal)) as onlooker:
        places = _first_places(settings, client, onlooker, new, since=time.time())
    client.commit(offsets=places, asynchronous=False)


def start_at(
    settings: Settings,
    lane: Lane,
    consumer: RawConsumer,
    another: Callable[..., RawConsumer] = consumer_of,
    clock: Clock = REAL_CLOCK,
) -> Callable[[list[TopicPartition], bool], Beginning]:
    """Return what finds out where newly assigned partitions begin, and is told whether this is its last chance.

    A new shadow group begins where the normal group stands, or with the first message that was written since this was
    called, by the clock of whoever wrote it, if that comes first. Whoever is given a topic's first partition says so
    for all of its partitions, and the others wait for that word. One that was added since is read from its beginning;
    so is a retry topic, which has the lane to itself, by either lane. Where nothing may be repeated no lane begins
    without an answer: it is late while a transaction that a killed member left open has not run out of its time.
    """
    began_at = clock.wall()
    topics = settings.of(lane).topics.values()
    resting = {retry_topic(topic.name, lane) for topic in topics if topic.rounds}
    exact = [topic for topic in topics if topic.transactional or lane is Lane.SHADOW]
    must_know = {place for topic in exact for place in (topic.source, retry_topic(topic.name, lane))}

    def begin(partitions: list[TopicPartition], last: bool) -> Beginning:  # noqa: FBT001 - a Callable has no keywords
        try:
            known = [_from_beginning(each, resting) for each in committed(consumer, partitions)]
        except BrokerError as error:
            if not last or any(each.topic in must_know for each in partitions):
                raise
            # Normal goes on without an answer, and then repeats what was finished.
            log.warning("commits_not_read lane=%s error=%s", lane, error)
            return Beginning(partitions, [])
        new = [each for each in known if each.offset < 0 and each.topic not in resting]
        if not new or lane is Lane.NORMAL:
            return Beginning(known, [])
        with closing(another(settings.normal)) as onlooker:
            begun = _first_places(settings, consumer, onlooker, new, since=began_at, last=last)
        log.info("shadow_begins lane=%s partitions=%s", lane, begun)
        return Beginning([each for each in known if each.offset >= 0 or each.topic in resting], begun)

    return begin


def _from_beginning(place: TopicPartition, resting: set[str]) -> TopicPartition:
    """Begin a retry topic at its first message, whatever is said of others: we wrote it ourselves."""
    if place.offset < 0 and place.topic in resting:
        place.offset = OFFSET_BEGINNING
    return place


def _first_places(
    settings: Settings,
    client: RawConsumer,
    onlooker: RawConsumer,
    new: list[TopicPartition],
    *,
    since: float,
    last: bool = True,
) -> list[TopicPartition]:
    """Return where the shadow group begins in partitions that it has committed nothing of, and whose word is ours."""
    first, added = _sorted_out(client, onlooker, new, last=last)
    at_end = str(settings.normal.kafka.get("auto.offset.reset", "earliest")) in {"latest", "largest", "end"}
    at_normal = pinned(client, committed(onlooker, first), at_end=at_end)
    return [*not_after(onlooker, at_normal, since), *at_beginning(client, added)]


def _sorted_out(
    client: RawConsumer, onlooker: RawConsumer, new: list[TopicPartition], *, last: bool
) -> tuple[list[TopicPartition], list[TopicPartition]]:
    """Return the partitions of a new group, all of those whose topic's first one is ours, and the ones added since."""
    first: list[TopicPartition] = []
    added: list[TopicPartition] = []
    for topic in sorted({each.topic for each in new}):
        ours = [TopicPartition(topic, each.partition) for each in new if each.topic == topic]
        (head,) = committed(client, [TopicPartition(topic, 0)])
        if head.offset >= 0:
            added += ours
        elif any(each.partition == 0 for each in ours):
            first += [each for each in committed(client, partitions_of(onlooker, topic)) if each.offset < 0]
        elif last:
            first += ours
        else:
            raise BrokerError(f"the member with partition 0 of {topic} has not said yet where the group begins")
    return first, added
