"""aiokafka, so that no header's name can stop it.

Its parser refuses a batch in which one header's name is not UTF-8, with all messages of that fetch: a consumer loses
what it had parsed before, or never gets past it. Anybody who may produce to a topic can do that to both lanes. There is
no place to say otherwise, so the parser's name is replaced in the one module that uses it, by one that reads such a
batch itself.
Traps:

* Only a batch that aiokafka refuses is read here, and what is broken in another way is still refused
  (``test_a_batch_that_is_broken_is_still_refused``).
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LenientRecords", "tolerate_header_names"]

LENGTH: Final = struct.Struct(">qi")
"""What every batch begins with: its first offset, and how long the rest is."""
HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""What a batch's records stand behind (Kafka's message format, version 2): its first offset, length, leader's epoch,
magic, checksum, attributes, last offset's delta, first and largest timestamp, producer's id, epoch, sequence, count."""
CODECS: Final = MappingProxyType({0: bytes, 1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode})
CODEC, LOG_APPEND_TIME = 0x07, 0x08
"""What the attributes' bits mean."""


def tolerate_header_names() -> None:
    """Let every aiokafka consumer of this process read messages whose headers' names are not UTF-8."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords:
    """The batches of one fetch."""

    def __init__(self, data: bytes) -> None:
        self._inner: Any = MemoryRecords(data)
        self._data, self._at = memoryview(data), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def next_batch(self) -> Any:
        """Return the next batch, None after the last."""
        batch = self._inner.next_batch()
        if batch is None:
            return None
        _, length = LENGTH.unpack_from(self._data, self._at)
        begin, self._at = self._at, self._at + LENGTH.size + length
        return _Batch(batch, self._data[begin : self._at])


class _Batch:
    """One batch, read by aiokafka where it can."""

    def __init__(self, inner: Any, data: memoryview) -> None:
        self._inner, self._data = inner, data
        self._records: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __iter__(self) -> Iterator[Any]:
        if self._records is None:
            self._records = iter(self._read())
        return self._records

    def __next__(self) -> Any:
        return next(iter(self))

    def _read(self) -> list[Any]:
        try:
            return list(self._inner)
        except (CorruptRecordException, UnicodeDecodeError) as refusal:
            try:
                return list(_records(bytes(self._data)))
            except (IndexError, ValueError, KeyError, struct.error) as error:
                raise CorruptRecordException(f"a batch that cannot be read ({error}): {refusal}") from refusal


class _Record(NamedTuple):
    """One message, as aiokafka's own records look."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


def _records(batch: bytes) -> Iterator[_Record]:
    """Read a batch as Kafka's protocol guide describes version 2 of the message format.

    Raises:
        ValueError, IndexError, struct.error, KeyError: it is broken.
    """
    head = HEAD.unpack_from(batch)
    base_offset, attributes, first_ms, largest_ms, count = head[0], head[5], head[7], head[8], head[12]
    reader = _Bytes(CODECS[attributes & CODEC](batch[HEAD.size :]))
    appended = bool(attributes & LOG_APPEND_TIME)
    for _ in range(count):
        end = reader.number() + reader.at
        reader.skip(1)
        timestamp, offset = first_ms + reader.number(), base_offset + reader.number()
        key, value = reader.text(), reader.text()
        # What is no UTF-8 becomes lone surrogates: it stays apart from every name that is text.
        pairs = [
            ((reader.text() or b"").decode("utf-8", "surrogateescape"), reader.text()) for _ in range(reader.number())
        ]
        if reader.at != end:
            raise ValueError("a record is not as long as it says")
        yield _Record(offset, largest_ms if appended else timestamp, int(appended), key, value, pairs)


class _Bytes:
    """Reads on through some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        self.at = 0

    def number(self) -> int:
        """Read a signed number of variable length."""
        number: int
        number, self.at = decode_varint(self._data, self.at)
        return number

    def skip(self, count: int) -> None:
        """Go on behind some bytes."""
        self.at += count

    def text(self) -> bytes | None:
        """Read some bytes and their length before them; None where it is negative."""
        length = self.number()
        if length < 0:
            return None
        begin, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise ValueError("a record ends too early")
        return bytes(self._data[begin : self.at])
