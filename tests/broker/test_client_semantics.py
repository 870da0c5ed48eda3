"""What the broker in memory is held to, on a real one: the same tests run on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("tests.semantics.clients", "tests.semantics.members")

from containers.kafka import KafkaContainer  # noqa: E402
from tests.semantics.clients import AssignmentSemantics, CommitSemantics, ProducerSemantics, TransactionSemantics  # noqa: E402
from tests.semantics.ground import BrokerGround  # noqa: E402
from tests.semantics.members import MemberSemantics  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def ground(kafka: KafkaContainer, unique: Callable[[str], str]) -> Iterator[BrokerGround]:
    mine = BrokerGround(kafka, unique)
    yield mine
    mine.close()


@pytest.fixture(scope="module")
def near_kafka() -> Iterator[KafkaContainer]:
    with KafkaContainer(host_network=True) as broker:
        yield broker


class TestAssignmentOnABroker(AssignmentSemantics):
    """Said in `AssignmentSemantics`."""


class TestCommitsOnABroker(CommitSemantics):
    """Said in `CommitSemantics`."""


class TestProducerOnABroker(ProducerSemantics):
    """Said in `ProducerSemantics`."""


class TestTransactionsOnABroker(TransactionSemantics):
    """Said in `TransactionSemantics`; here the broker must reach itself where its clients do."""

    @pytest.fixture
    def ground(self, near_kafka: KafkaContainer, unique: Callable[[str], str]) -> Iterator[BrokerGround]:
        mine = BrokerGround(near_kafka, unique)
        yield mine
        mine.close()


class TestMembersOnABroker(MemberSemantics):
    """Said in `MemberSemantics`."""
