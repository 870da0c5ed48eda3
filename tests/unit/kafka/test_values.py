"""What a limit by keys finds in a message."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message as RawMessage

from shadowstream.kafka.message import Message, values_of


def message(value: bytes | None = None, headers: Any = None) -> Message:
    return Message(RawMessage(topic="t", partition=0, offset=1, value=value, headers=headers))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'{"user_id": 7, "promotion_id": "p", "more": 1}', {"user_id": 7, "promotion_id": "p"}),
        (b'{"user_id": null}', {"user_id": None}),
        (b"[1, 2]", {}),
        (b"not json", {}),
        (b"\xff\xfe", {}),
        (b"", {}),
        (None, {}),
    ],
)
def test_fields_are_those_of_the_payload(value: bytes | None, found: dict[str, object]) -> None:
    assert values_of(["user_id", "promotion_id"])(message(value)) == found


def test_a_header_is_the_last_one_of_its_name() -> None:
    carried = [("tenant", b"a"), ("tenant", b"b"), ("empty", None)]
    keys = ["header:tenant", "header:empty", "header:absent", "user_id"]
    assert values_of(keys)(message(b'{"user_id": 7}', carried)) == {
        "header:tenant": b"b",
        "header:empty": None,
        "user_id": 7,
    }
    assert values_of(["header:tenant"])(message(b"not json")) == {}
