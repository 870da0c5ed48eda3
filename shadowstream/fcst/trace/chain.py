"""The topics of a chain, in the order in which a message goes through them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from shadowstream.errors import SetupError

__all__ = ["Chain"]

ARROW = ">"


@dataclass(frozen=True, slots=True)
class Chain:
    """A tree of topics: each but the first has one before it."""

    before: dict[str, str | None]
    """By topic, the one that it is written from; None for the first. In the order in which they were named."""

    @classmethod
    def parsed(cls, text: str) -> Chain:
        """Read ``claimed > dispatched > used, used > settled, used > cancelled``.

        Raises:
            SetupError: it is no chain with one begin; the message says why.
        """
        before: dict[str, str | None] = {}
        for path in text.split(","):
            steps = [step.strip() for step in path.split(ARROW)]
            if not all(steps):
                raise SetupError(f"chain {text!r}: an empty name in {path.strip()!r}; write a > b > c, b > d")
            before.setdefault(steps[0], None)
            for source, step in pairwise(steps):
                if before.setdefault(step, source) != source:
                    raise SetupError(f"chain {text!r}: {step} comes from {before[step] or 'nowhere'} and from {source}")
        chain = cls(before)
        if len(chain.begins) != 1:
            raise SetupError(
                f"chain {text!r} begins at {', '.join(chain.begins) or 'nothing'}; all topics but one come from another"
            )
        return chain

    @property
    def begins(self) -> list[str]:
        """The topics that come from nowhere."""
        return [topic for topic, source in self.before.items() if source is None]

    @property
    def first(self) -> str:
        """The topic that a probe is sent to."""
        return self.begins[0]

    def after(self, topic: str) -> list[str]:
        """Return the topics that are written from one."""
        return [each for each, source in self.before.items() if source == topic]

    def depth(self, topic: str) -> int:
        """Return how many hops it is to a topic."""
        source = self.before[topic]
        return 0 if source is None else self.depth(source) + 1
