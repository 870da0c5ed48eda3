"""Requests by hand, for what no client of ours would ask: header keys that are not UTF-8, a member thrown out."""

from __future__ import annotations

import socket
import struct

__all__ = ["produce", "throw_out"]

CASTAGNOLI = 0x82F63B78
PRODUCE, LEAVE_GROUP = (0, 7), (13, 3)
LEADER_ACKS, TIMEOUT_MS = 1, 10_000
WRITTEN_AT = 1_700_000_000_000


def produce(
    address: str, topic: str, value: bytes, headers: list[tuple[bytes, bytes]], written_at: int = WRITTEN_AT
) -> None:
    """Write one message to partition 0 of a topic; ``written_at`` in milliseconds is any number of 64 bits."""
    batch = _batch(value, headers, written_at)
    partition = struct.pack(">ii", 1, 0) + _sized(batch)
    body = struct.pack(">hhii", -1, LEADER_ACKS, TIMEOUT_MS, 1) + _short(topic.encode()) + partition
    told = _asked(address, PRODUCE, body)
    # one topic with its name, one partition with its number, then the error
    (error,) = struct.unpack_from(">h", told, 4 + 2 + len(topic) + 4 + 4)
    assert error == 0, f"the broker refused the message with error {error}"


def throw_out(address: str, group: str, member: str) -> None:
    """Let a member leave its group without its knowing, as if the broker had not heard of it for too long."""
    body = _short(group.encode()) + struct.pack(">i", 1) + _short(member.encode()) + struct.pack(">h", -1)
    told = _asked(address, LEAVE_GROUP, body)
    # the time throttled, the error
    (error,) = struct.unpack_from(">h", told, 4)
    assert error == 0, f"the broker refused to let {member} leave with error {error}"


def _asked(address: str, kind: tuple[int, int], body: bytes) -> bytes:
    """Send one request and return its answer behind the correlation id."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(_sized(struct.pack(">hhi", *kind, 1) + _short(b"by-hand") + body))
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        return answer.read(size)[4:]


def _batch(value: bytes, headers: list[tuple[bytes, bytes]], written_at: int) -> bytes:
    """Return a record batch (magic 2) of one record."""
    pairs = b"".join(_varint(len(part)) + part for pair in headers for part in pair)
    record = b"\0" + _varint(0) + _varint(0) + _varint(-1) + _varint(len(value)) + value + _varint(len(headers)) + pairs
    record = _varint(len(record)) + record
    checked = struct.pack(">hiqqqhii", 0, 0, written_at, written_at, -1, -1, -1, 1) + record
    behind = struct.pack(">ibI", -1, 2, _crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(behind)) + behind


def _sized(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _short(data: bytes) -> bytes:
    return struct.pack(">h", len(data)) + data


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
