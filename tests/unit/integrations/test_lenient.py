"""Batches of messages whose headers' names are not UTF-8, as aiokafka's fetcher is given them."""

from __future__ import annotations

import struct

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.integrations.gatehouse.lenient import LenientRecords, tolerate_header_names
from shadowstream.integrations.gatehouse.sieve import is_text

GOOD = [("x-shadow", b"1;run=a"), ("empty", None), ("", b"")]
STAND_IN = "~~~~"
"""A name of four letters that is replaced by four bytes which are no text, for aiokafka writes text only."""
NO_TEXT = b"\xff\xfe\xff\xfe"

Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]

steady = settings(derandomize=True, deadline=None, max_examples=150)
names = st.text(alphabet="abcxyz-", max_size=6)
messages = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=6),
        st.none() | st.binary(max_size=200),
        st.lists(st.tuples(names | st.just(STAND_IN), st.none() | st.binary(max_size=6)), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def batch(written: list[Message], first: int = 0, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=10**6,
    )  # fmt: skip
    for number, (key, value, headers) in enumerate(written):
        builder.append(number, timestamp=1000 + number, key=key, value=value, headers=headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, first)
    return bytes(data)


def poisoned(written: list[Message], first: int = 0) -> bytes:
    # The checksum is off afterwards; the fetcher looks at it before, and these tests do not ask.
    return batch(written, first).replace(STAND_IN.encode(), NO_TEXT)


def read(data: bytes) -> list[tuple]:
    records, found = LenientRecords(data), []
    while records.has_next():
        each = records.next_batch()
        found += [
            (one.offset, one.timestamp, one.timestamp_type, one.key, one.value, list(one.headers)) for one in each
        ]
    assert records.next_batch() is None
    return found


@steady
@given(messages)
def test_what_aiokafka_reads_is_read_as_it_does(written: list[Message]) -> None:
    data = batch(written) + batch(written, first=len(written))
    expected = [
        (number, 1000 + number % len(written), 0, *written[number % len(written)]) for number in range(2 * len(written))
    ]
    assert read(data) == expected


@steady
@given(messages)
def test_a_name_that_is_no_text_is_kept_apart_and_nothing_else_changes(written: list[Message]) -> None:
    no_text = NO_TEXT.decode("utf-8", "surrogateescape")
    expected = [
        (number, 1000 + number, 0, key, value, [(no_text if name == STAND_IN else name, each) for name, each in pairs])
        for number, (key, value, pairs) in enumerate(written)
    ]
    assert read(poisoned(written)) == expected
    assert not is_text(no_text)
    assert all(is_text(name) for _, _, pairs in written for name, _ in pairs)


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_are_read_too(codec: int) -> None:
    written: list[Message] = [(b"k", b"v" * 1000, GOOD)]
    assert [each[3:] for each in read(batch(written, codec=codec))] == written


def test_a_batch_that_is_broken_is_still_refused() -> None:
    data = bytearray(poisoned([(b"key", b"value", [(STAND_IN, b"x")])]))
    whole = bytes(data)
    assert read(whole)
    for at in range(61, len(data)):
        data[at] ^= 0x55
        try:
            found = read(bytes(data))
        except CorruptRecordException:
            found = []
        # A changed byte of a text is still a text; whatever else it hits is refused or reads as one message.
        assert len(found) <= 1
        data[at] ^= 0x55
    short = bytearray(whole)
    struct.pack_into(">i", short, 57, 7)
    with pytest.raises(CorruptRecordException):
        read(bytes(short))


def test_every_fetch_of_this_process_is_read_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    tolerate_header_names()
    assert fetcher.MemoryRecords is LenientRecords
