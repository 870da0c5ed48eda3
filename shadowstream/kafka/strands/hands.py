"""What the engine asks of whoever carries it, and what the cursor asks of them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.engine import Engine
    from shadowstream.kafka.offsets import Piece

__all__ = ["Crew", "Hands", "Leader", "Steering"]


class Hands(Protocol):
    """Carries pieces through the engine; both calls end early when the piece is cancelled."""

    async def wait(self, seconds: float, piece: Piece) -> None:
        """Wait and keep the hand: what is waited for is the same for all strands, a gate."""
        ...

    async def rest(self, seconds: float, piece: Piece) -> None:
        """Let the hand carry other strands meanwhile: what is waited for is this message's own."""
        ...


class Steering(Protocol):
    """The right to poll, while a hand has it."""

    def next(self, *, free: bool) -> list[Piece]:
        """Poll, if the hand has nothing else to do; returns what it carries next, nothing when it polls no more."""
        ...


class Leader(Protocol):
    """A hand that polls for the owner."""

    def taken(self, pieces: list[Piece]) -> list[Piece]:
        """Count pieces as the hand's, in order; returns those whose turn it is."""
        ...

    def lead(self, pieces: list[Piece], helm: Steering) -> None:
        """Carry these, then what polling gives, until it gives nothing."""
        ...


class Crew(Protocol):
    """All hands of one topic in one lane, as the cursor sees them; only the owner thread calls."""

    engine: Engine

    def pieces(self, partition: int, messages: list[RawMessage]) -> list[Piece]:
        """Cut one partition's batch into pieces."""
        ...

    def put(self, pieces: list[Piece]) -> None:
        """Hand pieces over, in order."""
        ...

    def leader(self) -> Leader | None:
        """Return the crew's only hand if it can poll and has nothing to do."""
        ...

    def level(self) -> float:
        """Return how full the bound is: 1.0 and more means take nothing further."""
        ...

    def waiting(self) -> int:
        """Return how many messages are in pieces that are not finished."""
        ...

    def recall(self) -> None:
        """Wake what rests, so that cancelled pieces end."""
        ...

    def end(self) -> None:
        """Let the hands go once they are idle."""
        ...
