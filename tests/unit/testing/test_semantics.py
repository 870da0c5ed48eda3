"""The broker in memory does what a real one does: the same tests run on both."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.semantics.clients", "tests.semantics.members")

from tests.semantics.clients import AssignmentSemantics, CommitSemantics, ProducerSemantics, TransactionSemantics  # noqa: E402
from tests.semantics.ground import MemoryGround  # noqa: E402
from tests.semantics.members import MemberSemantics  # noqa: E402


@pytest.fixture
def ground() -> MemoryGround:
    return MemoryGround()


class TestAssignmentInMemory(AssignmentSemantics):
    """Said in `AssignmentSemantics`."""


class TestCommitsInMemory(CommitSemantics):
    """Said in `CommitSemantics`."""


class TestProducerInMemory(ProducerSemantics):
    """Said in `ProducerSemantics`."""


class TestTransactionsInMemory(TransactionSemantics):
    """Said in `TransactionSemantics`."""


class TestMembersInMemory(MemberSemantics):
    """Said in `MemberSemantics`."""
