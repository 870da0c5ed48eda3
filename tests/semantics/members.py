"""What members of a group see, said once: tests that run against the broker in memory and against a real one."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.semantics.clients import WAIT_S, refused
from tests.semantics.ground import Ground, Heard, numbers, produce, read, turn, until

EAGER = {"partition_assignment_strategy": "range"}
COOPERATIVE = {"partition_assignment_strategy": "cooperative-sticky"}
MODERN = {"group_protocol": "consumer"}
PROTOCOLS = pytest.mark.parametrize("protocol", [EAGER, COOPERATIVE, MODERN], ids=["eager", "cooperative", "consumer"])
GIVEN, TAKEN = "assigned", "revoked"


class MemberSemantics:
    """Consumer groups, in all three protocols."""

    @PROTOCOLS
    def test_two_members_share_and_the_one_that_stays_gets_all(self, ground: Ground, protocol: dict[str, str]) -> None:
        topic, group = ground.topic(2), ground.name()
        heard, heard_too = Heard(), Heard()
        first = ground.consumer(group, **protocol)
        first.subscribe([topic], **heard.callbacks())
        until(ground, lambda: heard.changes, first)
        assert heard.changes == [(GIVEN, [0, 1])]
        second = ground.consumer(group, **protocol)
        second.subscribe([topic], **heard_too.callbacks())
        until(ground, lambda: len(numbers(first)) == len(numbers(second)) == 1, first, second)
        turn(ground, 1.0, first, second)
        (kept,), (moved,) = numbers(first), numbers(second)
        assert {kept, moved} == {0, 1}
        assert heard_too.said() == [(GIVEN, [moved])]
        if protocol is EAGER:
            assert heard.said() == [(GIVEN, [0, 1]), (TAKEN, [0, 1]), (GIVEN, [kept])]
        else:
            assert heard.said() == [(GIVEN, [0, 1]), (TAKEN, [moved])]
            # What follows a revocation is said, also when it is nothing.
            assert heard.changes[2] == (GIVEN, [])
        second.close()
        assert heard_too.changes[-1] == (TAKEN, [moved])
        until(ground, lambda: numbers(first) == [0, 1], first)
        first.close()
        assert heard.changes[-1] == (TAKEN, [0, 1])

    @PROTOCOLS
    def test_a_member_commits_and_an_outsider_does_not(self, ground: Ground, protocol: dict[str, str]) -> None:
        topic, group = ground.topic(), ground.name()
        produce(ground, topic, "abc")
        member, outsider = ground.consumer(group, **protocol), ground.consumer(group)
        member.subscribe([topic])
        read(ground, member, 1)
        place = TopicPartition(topic, 0, 1)
        refused(KafkaError.UNKNOWN_MEMBER_ID, outsider.commit, offsets=[place], asynchronous=False)
        member.commit(offsets=[place], asynchronous=False)
        (found,) = outsider.committed([place], timeout=WAIT_S)
        assert found.offset == 1
        member.close()
        outsider.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)

    @PROTOCOLS
    def test_the_last_commit_is_made_while_the_partitions_are_revoked(
        self, ground: Ground, protocol: dict[str, str]
    ) -> None:
        topic, group = ground.topic(), ground.name()
        answers: list[Any] = []

        def on_revoke(consumer: Any, partitions: list[TopicPartition]) -> None:
            (place,) = partitions
            answers.extend(consumer.commit(offsets=[TopicPartition(topic, place.partition, 7)], asynchronous=False))

        member = ground.consumer(group, **protocol)
        member.subscribe([topic], on_revoke=on_revoke)
        until(ground, lambda: numbers(member), member)
        member.close()
        assert [(each.offset, each.error) for each in answers] == [(7, None)]

    @PROTOCOLS
    def test_the_other_family_of_assign_is_refused(self, ground: Ground, protocol: dict[str, str]) -> None:
        codes: list[int] = []

        def on_assign(consumer: Any, partitions: list[TopicPartition]) -> None:
            with pytest.raises(KafkaException) as raised:
                (consumer.incremental_assign if protocol is EAGER else consumer.assign)(partitions)
            codes.append(raised.value.args[0].code())
            (consumer.assign if protocol is EAGER else consumer.incremental_assign)(partitions)

        member = ground.consumer(ground.name(), **protocol)
        member.subscribe([ground.topic()], on_assign=on_assign)
        until(ground, lambda: codes, member)
        assert codes == [KafkaError._STATE]
        assert numbers(member) == [0]

    @PROTOCOLS
    def test_where_a_callback_begins_elsewhere_reading_does(self, ground: Ground, protocol: dict[str, str]) -> None:
        topic = ground.topic()
        produce(ground, topic, "abc")

        def on_assign(consumer: Any, partitions: list[TopicPartition]) -> None:
            for each in partitions:
                each.offset = 2
            (consumer.assign if protocol is EAGER else consumer.incremental_assign)(partitions)

        member = ground.consumer(ground.name(), **protocol)
        member.subscribe([topic], on_assign=on_assign)
        assert read(ground, member, 1)[0].value() == b"c"

    @pytest.mark.parametrize("protocol", [EAGER, MODERN], ids=["eager", "consumer"])
    def test_a_static_member_that_comes_back_is_not_noticed(self, ground: Ground, protocol: dict[str, str]) -> None:
        topic, group = ground.topic(2), ground.name()
        first = ground.consumer(group, group_instance_id="one", **protocol)
        second = ground.consumer(group, group_instance_id="two", **protocol)
        heard = Heard()
        first.subscribe([topic])
        second.subscribe([topic], **heard.callbacks())
        until(ground, lambda: len(numbers(first)) == len(numbers(second)) == 1, first, second)
        had, before = numbers(first), list(heard.changes)
        first.close()
        turn(ground, 1.0, second)
        again = ground.consumer(group, group_instance_id="one", **protocol)
        again.subscribe([topic])
        until(ground, lambda: numbers(again), again, second)
        assert numbers(again) == had
        assert heard.changes == before

    def test_a_classic_static_member_is_fenced_by_the_next_with_its_id(self, ground: Ground) -> None:
        topic, group = ground.topic(), ground.name()
        heard = Heard()
        first = ground.consumer(group, group_instance_id="one", **EAGER)
        first.subscribe([topic], **heard.callbacks())
        until(ground, lambda: numbers(first), first)
        second = ground.consumer(group, group_instance_id="one", **EAGER)
        second.subscribe([topic])
        until(ground, lambda: numbers(second), second)
        told = read(ground, first, 1)[0].error()
        # It does not call itself fatal.
        assert (told.code(), told.fatal()) == (KafkaError._FATAL, False)
        assert numbers(first) == []
        refused(KafkaError._FATAL, first.commit, offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        assert heard.changes == [(GIVEN, [0])]

    def test_a_modern_static_member_is_not_replaced_while_it_lives(self, ground: Ground) -> None:
        topic, group = ground.topic(), ground.name()
        first = ground.consumer(group, group_instance_id="one", **MODERN)
        first.subscribe([topic])
        until(ground, lambda: numbers(first), first)
        second = ground.consumer(group, group_instance_id="one", **MODERN)
        second.subscribe([topic])
        told = read(ground, second, 1)[0].error()
        # It does not call itself fatal.
        assert (told.code(), told.fatal()) == (KafkaError._FATAL, False)
        first.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
