"""What the command line asks for, as the rows see it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything, and what of it."""

    quick: bool = False
    """A smoke: small counts, few rounds."""
    rounds: int | None = None
    """How often sides take turns; None: each row's own number."""
    scale: float = 1.0
    """Times the number of messages, where sides are compared with peers."""
    zipf: float = 1.0
    """The exponent of the keys' distribution."""
    sides: tuple[str, ...] = ()
    """Which peers take part; none named: all."""
    huge: bool = False
    """Whether the memory row also has ten million messages ahead."""

    def messages(self, full: int, smoke: int) -> int:
        """Return how many messages, at least a thousand."""
        return smoke if self.quick else max(int(full * self.scale), 1000)

    def turns(self, full: int) -> int:
        """Return how many rounds."""
        return self.rounds or (1 if self.quick else full)
