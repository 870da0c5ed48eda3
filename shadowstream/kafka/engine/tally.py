"""What a strand notes while it carries a piece, so that one fact is announced for many messages.

The usual outcome and the usual verdict are not counted at all, only what differs from them: they are what is left of
the messages that the piece has finished. Trap: a batch's messages are finished together, and some of them are counted
before that (``test_a_batch_is_counted_once_however_often_its_piece_is_announced_meanwhile``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shadowstream.events import Carried, Outcome

if TYPE_CHECKING:
    from shadowstream.gate import Ticket
    from shadowstream.kafka.clock import Clock
    from shadowstream.kafka.offsets import Piece
    from shadowstream.kafka.strands.hands import Hands
    from shadowstream.lane import Lane

__all__ = ["Tally"]

ANNOUNCE_S = 1.0


class Tally:
    """One strand's notes while it carries a piece: the time, and what happened since it was last announced."""

    __slots__ = (
        "_clock",
        "_wall",
        "accounted",
        "announce_at",
        "deferred",
        "error",
        "hands",
        "now",
        "outcomes",
        "partition",
        "piece",
        "reasons",
        "seconds",
        "soft",
        "stepped_over",
        "verdicts",
    )

    def __init__(self, piece: Piece, hands: Hands, clock: Clock) -> None:
        self.piece = piece
        self.hands = hands
        self.partition = piece.messages[0].partition() or 0
        self._clock = clock.monotonic
        self.now = clock.monotonic()
        """Monotonic seconds when the strand last looked at the clock: once per message, at its end."""
        self._wall = clock.wall() - self.now
        self.accounted = piece.done
        """How many of the piece's messages were announced: of those that are done, the others were handled."""
        self.error: BaseException | None = None
        """What the handler raised at its last attempt."""
        self.begin()

    def begin(self) -> None:
        """Start counting anew."""
        self.announce_at = self.now + ANNOUNCE_S
        self.stepped_over = self.deferred = self.soft = 0
        self.outcomes: Counter[Outcome] = Counter()
        """All outcomes but handled."""
        self.verdicts: Counter[str] = Counter()
        """All verdicts but admissions, of which each has a time in ``seconds``."""
        self.reasons: Counter[str] = Counter()
        self.seconds: list[float] = []

    def note(self, ticket: Ticket) -> None:
        """Count an admission that is told apart: above the soft limit, or refused by a stage in dry run."""
        if ticket.soft:
            self.soft += 1
        if ticket.dry:
            self.verdicts[f"dry_{ticket.dry}"] += 1

    def tick(self) -> float:
        """Look at the clock."""
        self.now = now = self._clock()
        return now

    def look(self, clock: Clock) -> None:
        """Look at both clocks, after a time in which somebody may have set the one on the wall."""
        self._wall = clock.wall() - self.tick()

    def unix(self) -> float:
        """Return the Unix time when the strand last looked at the clock."""
        return self.now + self._wall

    def told(self, lane: Lane, topic: str, command: str) -> Carried:
        """Return what happened as a fact, and start anew."""
        others = sum(self.outcomes.values()) + self.stepped_over + self.deferred
        self.outcomes[Outcome.HANDLED] = handled = max(self.piece.done - self.accounted - others, 0)
        self.accounted += handled + others
        self.verdicts["admit"] = len(self.seconds) - self.soft
        self.verdicts["admit_soft"] = self.soft
        fact = Carried(
            lane,
            topic,
            self.partition,
            command,
            +self.outcomes,
            self.stepped_over,
            +self.verdicts,
            self.reasons,
            tuple(self.seconds),
        )
        self.begin()
        return fact
