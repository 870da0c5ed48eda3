"""A consumed message of any client, with confluent-kafka's accessors, so that everything else here knows one shape."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Record"]

Headers = list[tuple[str, bytes | None]]

CREATE_TIME = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One message as its client gave it."""

    source: str
    """The topic that it was read from."""
    place: int
    """Its partition."""
    at: int
    """Its offset."""
    identity: bytes | None = field(repr=False)
    """Its key."""
    payload: bytes | None = field(repr=False)
    """Its value."""
    pairs: Headers = field(repr=False)
    """Its headers, in their order, duplicates included."""
    milliseconds: int = 0
    """Its time, in milliseconds since the epoch."""

    def topic(self) -> str:
        """Return the topic it was read from."""
        return self.source

    def partition(self) -> int:
        """Return the partition it was read from."""
        return self.place

    def offset(self) -> int:
        """Return its offset."""
        return self.at

    def key(self) -> bytes | None:
        """Return the key."""
        return self.identity

    def value(self) -> bytes | None:
        """Return the payload."""
        return self.payload

    def headers(self) -> Headers:
        """Return the headers, duplicates included."""
        return self.pairs

    def timestamp(self) -> tuple[int, int]:
        """Return the timestamp's type and its milliseconds since the epoch."""
        return CREATE_TIME, self.milliseconds

    def leader_epoch(self) -> None:
        """Return nothing: not every client tells it."""

    def error(self) -> None:
        """Return nothing: what is here is a message."""
