"""Where a group's offsets are kept."""

from __future__ import annotations

import pytest

from containers.cluster.brokers import partition_of


@pytest.mark.parametrize(
    ("group", "java_hash"),
    [("", 0), ("a", 97), ("abc", 96354), ("polygenelubricants", -(2**31))],
)
def test_a_group_is_kept_where_java_s_hash_of_its_name_says(group: str, java_hash: int) -> None:
    assert partition_of(group, 50) == (java_hash & 0x7FFFFFFF) % 50
