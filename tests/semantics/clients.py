"""What clients do, said once: tests that run against the broker in memory and against a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from tests.semantics.ground import Ground, produce, read, until

if TYPE_CHECKING:
    from collections.abc import Callable

KIB4 = 4095
WAIT_S = 15.0


def code_of(raised: pytest.ExceptionInfo[KafkaException]) -> int:
    return raised.value.args[0].code()


def refused(code: int, call: Callable[..., object], *given: Any, **named: Any) -> None:
    """See a call raise one of the library's errors."""
    with pytest.raises(KafkaException) as raised:
        call(*given, **named)
    assert code_of(raised) == code, raised.value


def offsets_of(partitions: list[TopicPartition]) -> list[int]:
    return [each.offset for each in partitions]


class AssignmentSemantics:
    """Partitions that a consumer takes by itself, and its place in them."""

    def test_what_is_not_assigned_cannot_be_sought(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        consumer.assign([TopicPartition(topic, 0)])
        consumer.unassign()
        refused(KafkaError._STATE, consumer.seek, TopicPartition(topic, 0, 1))
        assert offsets_of(consumer.position([TopicPartition(topic, 0)])) == [OFFSET_INVALID]
        consumer.pause([TopicPartition(topic, 0)])

    def test_a_partition_is_added_once_and_removed_once(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic(2)
        consumer.incremental_assign([TopicPartition(topic, 0, 1)])
        refused(KafkaError._CONFLICT, consumer.incremental_assign, [TopicPartition(topic, 0, 1)])
        refused(KafkaError._INVALID_ARG, consumer.incremental_unassign, [TopicPartition(topic, 1)])
        assert [(each.partition, each.offset) for each in consumer.assignment()] == [(0, 1)]
        consumer.incremental_unassign([TopicPartition(topic, 0)])
        assert consumer.assignment() == []

    def test_reading_begins_where_the_assignment_says_and_the_position_follows(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abcdef")
        place = TopicPartition(topic, 0, 2)
        consumer.assign([place])
        assert offsets_of(consumer.position([place])) == [OFFSET_INVALID]
        assert [message.value() for message in read(ground, consumer, 2)] == [b"c", b"d"]
        assert offsets_of(consumer.position([place])) == [4]

    def test_seek_goes_back_and_the_position_is_unknown_until_the_next_message(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        place = TopicPartition(topic, 0, 0)
        consumer.assign([place])
        read(ground, consumer, 3)
        consumer.seek(TopicPartition(topic, 0, 1))
        assert offsets_of(consumer.position([place])) == [OFFSET_INVALID]
        assert read(ground, consumer, 1)[0].offset() == 1

    def test_a_paused_partition_is_silent_until_it_is_resumed(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        place = TopicPartition(topic, 0, 0)
        consumer.assign([place])
        read(ground, consumer, 1)
        consumer.pause([place])
        assert consumer.poll(0.3) is None
        consumer.resume([place])
        assert read(ground, consumer, 1)[0].offset() == 1

    def test_a_paused_partition_is_still_paused_after_it_is_assigned_again(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        consumer.assign([TopicPartition(topic, 0, 0)])
        read(ground, consumer, 1)
        consumer.pause([TopicPartition(topic, 0)])
        consumer.unassign()
        consumer.assign([TopicPartition(topic, 0, 0)])
        assert consumer.poll(0.5) is None

    def test_consume_returns_what_is_there_when_its_time_is_up(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        consumer.assign([TopicPartition(topic, 0, 0)])
        read(ground, consumer, 1)
        before = ground.now()
        assert [message.offset() for message in consumer.consume(10, 0.5)] == [1, 2]
        assert ground.now() - before >= 0.45

    def test_an_offset_beyond_the_end_is_reset(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        consumer.assign([TopicPartition(topic, 0, 100)])
        assert read(ground, consumer, 1)[0].offset() == 0

    def test_without_a_reset_the_missing_offset_is_told(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name(), auto_offset_reset="error"), ground.topic()
        produce(ground, topic, "abc")
        consumer.assign([TopicPartition(topic, 0)])
        told = read(ground, consumer, 1)[0]
        assert (told.error().code(), told.topic(), told.partition()) == (KafkaError._AUTO_OFFSET_RESET, topic, 0)
        assert consumer.poll(0.3) is None

    def test_the_end_of_a_partition_is_told_once_where_that_is_asked_for(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name(), enable_partition_eof=True), ground.topic()
        produce(ground, topic, "a")
        consumer.assign([TopicPartition(topic, 0, 0)])
        message, end = read(ground, consumer, 2)
        assert message.value() == b"a"
        assert (end.error().code(), end.partition(), end.offset()) == (KafkaError._PARTITION_EOF, 0, 1)
        assert consumer.poll(0.3) is None

    def test_a_topic_that_is_not_there_is_told(self, ground: Ground) -> None:
        consumer = ground.consumer(ground.name())
        consumer.subscribe([missing := ground.name()])
        told = read(ground, consumer, 1)[0]
        assert told.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert told.topic() == missing

    def test_a_closed_consumer_can_do_nothing(self, ground: Ground) -> None:
        consumer = ground.consumer(ground.name())
        consumer.close()
        consumer.close()
        for call in (consumer.poll, consumer.assignment, consumer.unassign, consumer.commit):
            with pytest.raises(RuntimeError, match="Consumer closed"):
                call()

    def test_watermarks_are_asked_for_or_known_from_the_last_read(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        place = TopicPartition(topic, 0, 0)
        assert consumer.get_watermark_offsets(place, cached=True) == (OFFSET_INVALID, OFFSET_INVALID)
        assert consumer.get_watermark_offsets(place, timeout=WAIT_S) == (0, 3)
        consumer.assign([place])
        read(ground, consumer, 1)
        assert consumer.get_watermark_offsets(place, cached=True) == (0, 3)
        refused(KafkaError._UNKNOWN_PARTITION, consumer.get_watermark_offsets, TopicPartition(topic, 7), timeout=WAIT_S)


class CommitSemantics:
    """Committed offsets."""

    def test_where_nothing_is_committed_the_offset_is_invalid(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S)
        assert (found.offset, found.metadata, found.error) == (OFFSET_INVALID, None, None)

    def test_a_commit_keeps_its_metadata_up_to_the_limit(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        consumer.commit(offsets=[TopicPartition(topic, 0, 3, "m" * KIB4)], asynchronous=False)
        refused(
            KafkaError.OFFSET_METADATA_TOO_LARGE,
            consumer.commit,
            offsets=[TopicPartition(topic, 0, 4, "m" * (KIB4 + 1))],
            asynchronous=False,
        )
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S)
        assert (found.offset, found.metadata) == (3, "m" * KIB4)

    def test_a_commit_of_two_partitions_raises_when_one_is_refused_and_commits_the_other(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic(2)
        places = [TopicPartition(topic, 0, 4, "m" * (KIB4 + 1)), TopicPartition(topic, 1, 1)]
        refused(KafkaError.OFFSET_METADATA_TOO_LARGE, consumer.commit, offsets=places, asynchronous=False)
        assert offsets_of(consumer.committed(places, timeout=WAIT_S)) == [OFFSET_INVALID, 1]

    @pytest.mark.parametrize("bad", [0, 1])
    def test_an_asynchronous_answer_blames_all_partitions_for_one(self, ground: Ground, bad: int) -> None:
        answers: list[Any] = []
        consumer = ground.consumer(ground.name(), on_commit=lambda error, places: answers.append((error, places)))
        topic, too_large = ground.topic(2), KafkaError.OFFSET_METADATA_TOO_LARGE
        metadata = {bad: "m" * (KIB4 + 1), 1 - bad: ""}
        consumer.commit(offsets=[TopicPartition(topic, number, 4, metadata[number]) for number in (0, 1)])
        until(ground, lambda: answers, consumer)
        ((error, places),) = answers
        assert error.code() == too_large
        assert {each.partition: each.error.code() for each in places} == {0: too_large, 1: too_large}
        (found,) = consumer.committed([TopicPartition(topic, 1 - bad)], timeout=WAIT_S)
        assert found.offset == 4

    def test_asynchronous_answers_come_in_order_and_only_from_poll(self, ground: Ground) -> None:
        answers: list[int] = []
        topic = ground.topic()
        consumer = ground.consumer(ground.name(), on_commit=lambda _, places: answers.extend(offsets_of(places)))
        for offset in (1, 2, 3):
            assert consumer.commit(offsets=[TopicPartition(topic, 0, offset)]) is None
        assert answers == []
        until(ground, lambda: len(answers) == 3, consumer)
        assert answers == [1, 2, 3]

    def test_where_there_is_nothing_to_commit_that_is_an_error(self, ground: Ground) -> None:
        answers: list[Any] = []
        topic = ground.topic()
        consumer = ground.consumer(ground.name(), on_commit=lambda error, places: answers.append((error, places)))
        refused(KafkaError._NO_OFFSET, consumer.commit, asynchronous=False)
        refused(KafkaError._NO_OFFSET, consumer.commit, offsets=[], asynchronous=False)
        refused(KafkaError._NO_OFFSET, consumer.commit, offsets=[TopicPartition(topic, 0)], asynchronous=False)
        consumer.commit()
        until(ground, lambda: answers, consumer)
        assert [(error.code(), places) for error, places in answers] == [(KafkaError._NO_OFFSET, [])]

    def test_a_message_is_committed_by_the_offset_after_it(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        produce(ground, topic, "abc")
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        first, _ = read(ground, consumer, 2)
        assert offsets_of(consumer.commit(message=first, asynchronous=False)) == [1]
        assert offsets_of(consumer.commit(asynchronous=False)) == [2]
        refused(KafkaError._NO_OFFSET, consumer.commit, asynchronous=False)
        assert offsets_of(consumer.committed([place], timeout=WAIT_S)) == [2]
        with pytest.raises(ValueError, match="mutually exclusive"):
            consumer.commit(message=first, offsets=[place], asynchronous=False)

    def test_a_stored_offset_is_what_commit_commits(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name(), enable_auto_offset_store=False), ground.topic()
        produce(ground, topic, "abc")
        consumer.assign([TopicPartition(topic, 0)])
        consumer.unassign()
        refused(KafkaError._STATE, consumer.store_offsets, offsets=[TopicPartition(topic, 0, 1)])
        consumer.assign([TopicPartition(topic, 0)])
        read(ground, consumer, 3)
        consumer.store_offsets(offsets=[TopicPartition(topic, 0, 2)])
        assert offsets_of(consumer.commit(asynchronous=False)) == [2]

    def test_reading_goes_on_where_the_group_stands(self, ground: Ground) -> None:
        group, topic = ground.name(), ground.topic()
        produce(ground, topic, "abc")
        ground.consumer(group).commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
        consumer = ground.consumer(group)
        consumer.assign([TopicPartition(topic, 0)])
        assert read(ground, consumer, 1)[0].value() == b"c"

    def test_an_unknown_partition_is_not_committed(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
        refused(unknown, consumer.commit, offsets=[TopicPartition(topic, 9, 4)], asynchronous=False)
        refused(unknown, consumer.commit, offsets=[TopicPartition(ground.name(), 0, 4)], asynchronous=False)
        assert offsets_of(consumer.committed([TopicPartition(ground.name(), 0)], timeout=WAIT_S)) == [OFFSET_INVALID]


class ProducerSemantics:
    """Messages, their way into the log and the reports of it."""

    def test_a_message_arrives_as_it_was_sent(self, ground: Ground) -> None:
        consumer, topic = ground.consumer(ground.name()), ground.topic()
        producer = ground.producer()
        headers = [("x", b"1"), ("x", None), ("y", "text")]
        producer.produce(topic, "value", "key", 0, None, None, 1_700_000_000_123, headers)
        producer.produce(topic, b"plain", partition=0)
        producer.produce(topic, None, b"key", partition=0, headers={"a": "b"})
        producer.flush(WAIT_S)
        consumer.assign([TopicPartition(topic, 0, 0)])
        full, plain, tombstone = read(ground, consumer, 3)
        assert (full.key(), full.value(), full.timestamp()) == (b"key", b"value", (1, 1_700_000_000_123))
        assert full.headers() == [("x", b"1"), ("x", None), ("y", b"text")]
        assert (plain.key(), plain.headers()) == (None, None)
        assert (tombstone.value(), tombstone.headers()) == (None, [("a", b"b")])
        assert (full.topic(), full.partition(), full.offset(), full.error()) == (topic, 0, 0, None)

    def test_reports_come_from_poll_and_in_order(self, ground: Ground) -> None:
        topic, producer = ground.topic(), ground.producer()
        reports: list[Any] = []
        for value in "abc":
            producer.produce(
                topic, value, "k", partition=0, on_delivery=lambda error, message: reports.append((error, message))
            )
        assert reports == []
        assert len(producer) == 3
        until(ground, lambda: len(reports) == 3, producer)
        assert len(producer) == 0
        assert [error for error, _ in reports] == [None] * 3
        seen = [(message.topic(), message.partition(), message.offset(), message.value()) for _, message in reports]
        assert seen == [(topic, 0, 0, b"a"), (topic, 0, 1, b"b"), (topic, 0, 2, b"c")]
        assert reports[0][1].key() == b"k"
        assert reports[0][1].headers() is None

    def test_the_callback_s_first_name_hides_the_second(self, ground: Ground) -> None:
        topic, producer = ground.topic(), ground.producer()
        reports: list[str] = []
        producer.produce(topic, "a", None, 0, None, lambda *_: reports.append("hidden"))
        producer.produce(topic, "a", None, 0, lambda *_: reports.append("first"), None)
        producer.produce(topic, "a", partition=0, on_delivery=lambda *_: reports.append("second"))
        producer.flush(WAIT_S)
        assert reports == ["first", "second"]

    def test_a_full_queue_is_an_error_until_reports_are_taken(self, ground: Ground) -> None:
        topic, producer = ground.topic(), ground.producer(queue_buffering_max_messages=2)
        producer.produce(topic, "a")
        producer.produce(topic, "b")
        with pytest.raises(BufferError):
            producer.produce(topic, "c")
        assert producer.flush(WAIT_S) == 0
        producer.produce(topic, "c")
        assert producer.flush(WAIT_S) == 0

    def test_what_is_too_large_or_goes_nowhere_fails(self, ground: Ground) -> None:
        topic, producer = ground.topic(), ground.producer(topic_metadata_propagation_max_ms=500)
        codes: list[int] = []
        refused(KafkaError.MSG_SIZE_TOO_LARGE, producer.produce, topic, b"x" * 2_000_000)
        # The client knows a topic's partitions only once it has asked.
        producer.produce(topic, "a", partition=0)
        producer.flush(WAIT_S)
        refused(KafkaError._UNKNOWN_PARTITION, producer.produce, topic, "a", partition=7)
        producer.produce(ground.name(), "a", on_delivery=lambda error, _: codes.append(error.code()))
        producer.flush(WAIT_S)
        assert codes == [KafkaError.UNKNOWN_TOPIC_OR_PART]

    def test_the_cluster_s_topics_are_listed(self, ground: Ground) -> None:
        topic = ground.topic(3)
        for client in (ground.producer(), ground.consumer(ground.name())):
            assert sorted(client.list_topics(timeout=WAIT_S).topics[topic].partitions) == [0, 1, 2]
            missing = ground.name()
            found = client.list_topics(missing, timeout=WAIT_S).topics[missing]
            assert found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


class TransactionSemantics:
    """Transactions, with a consumer's offsets in them."""

    def test_a_transaction_is_seen_when_it_is_committed_and_never_when_it_is_aborted(self, ground: Ground) -> None:
        topic, group = ground.topic(), ground.name()
        producer = ground.producer(transactional_id=ground.name())
        refused(KafkaError._STATE, producer.begin_transaction)
        producer.init_transactions(60)
        consumer = ground.consumer(group)
        everything = ground.consumer(ground.name(), isolation_level="read_uncommitted")
        for reader in (consumer, everything):
            reader.assign([TopicPartition(topic, 0, 0)])
        refused(KafkaError._STATE, producer.produce, topic, "outside")
        producer.begin_transaction()
        producer.produce(topic, "aborted", partition=0)
        producer.flush(WAIT_S)
        producer.abort_transaction(WAIT_S)
        producer.begin_transaction()
        producer.produce(topic, "committed", partition=0)
        producer.flush(WAIT_S)
        produce(ground, topic, ["plain"])
        assert consumer.poll(0.5) is None
        assert [each.offset() for each in read(ground, everything, 3)] == [0, 2, 3]
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=WAIT_S) == (0, 2)
        assert everything.get_watermark_offsets(TopicPartition(topic, 0), timeout=WAIT_S) == (0, 4)
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 2)], consumer.consumer_group_metadata(), WAIT_S)
        producer.commit_transaction(WAIT_S)
        seen = [(each.offset(), each.value()) for each in read(ground, consumer, 2)]
        assert seen == [(2, b"committed"), (3, b"plain")]
        assert offsets_of(consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S)) == [2]
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=WAIT_S) == (0, 5)
        refused(KafkaError._STATE, producer.commit_transaction, WAIT_S)

    def test_the_next_with_a_transactional_id_fences_the_last_one(self, ground: Ground) -> None:
        topic, name = ground.topic(), ground.name()
        old = ground.producer(transactional_id=name)
        old.init_transactions(60)
        old.begin_transaction()
        old.produce(topic, "old", partition=0)
        old.flush(WAIT_S)
        new = ground.producer(transactional_id=name)
        new.init_transactions(60)
        with pytest.raises(KafkaException) as raised:
            old.commit_transaction(WAIT_S)
        assert raised.value.args[0].fatal()
        assert code_of(raised) == KafkaError._FENCED
        refused(KafkaError._FENCED, old.begin_transaction)
        new.begin_transaction()
        new.produce(topic, "new", partition=0)
        new.commit_transaction(WAIT_S)
        consumer = ground.consumer(ground.name())
        consumer.assign([TopicPartition(topic, 0, 0)])
        assert read(ground, consumer, 1)[0].value() == b"new"
