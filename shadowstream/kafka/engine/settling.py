"""Messages that their handler settles itself: a message's own offset is kept until it is told what to do with it.

Traps:

* The first word counts: whatever is said about a settled message later changes nothing, and neither does anything that
  is said after its partition was taken away (``test_only_the_first_word_about_a_message_counts``).
* A message that is asked for again comes in a piece of its own, opened by the owner, before the old one is let go: in
  between both keep the offset (``test_a_message_that_is_asked_for_again_stays_uncommitted``).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from shadowstream.errors import SetupError
from shadowstream.events import Outcome
from shadowstream.kafka.message import Message
from shadowstream.kafka.offsets import offset_of
from shadowstream.kafka.outlets import Interrupted
from shadowstream.kafka.resting import Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Message as RawMessage

    from shadowstream.kafka.clock import Clock
    from shadowstream.kafka.offsets import Piece, Token
    from shadowstream.kafka.outlets import Outlets
    from shadowstream.lane import Mark

__all__ = ["Again", "ByHand", "Desk", "ReturnedByHand"]


class Again(NamedTuple):
    """A message that is to be handled once more."""

    due: float
    """Monotonic seconds."""
    message: ByHand


class Desk:
    """Where one topic's messages are settled by hand; any thread may call."""

    def __init__(self, outlets: Outlets, clock: Clock) -> None:
        self._outlets = outlets
        self._clock = clock
        self._open: dict[ByHand, None] = {}
        self._again: deque[Again] = deque()

    def maker(self, piece: Piece, kind: type[ByHand]) -> Callable[[RawMessage, Mark | None], ByHand]:
        """Return what makes the messages of a piece."""

        def make(raw: RawMessage, mark: Mark | None) -> ByHand:
            message = kind(raw, mark)
            piece.ends.setdefault(offset_of(raw), None)
            message.desk, message.piece, message.token = self, piece, piece.hold(raw)
            self._open[message] = None
            return message

        return make

    def unsettled(self) -> int:
        """Return how many messages nobody has settled yet, of partitions that are still ours."""
        gone = [message for message in list(self._open) if message.piece.cancelled]
        for message in gone:
            self._open.pop(message, None)
        return len(self._open) + len(self._again)

    def settle(self, message: ByHand, outcome: Outcome) -> None:
        """Let go of a message that ended so."""
        if self.took(message):
            message.piece.ends[offset_of(message.raw)] = outcome
            message.piece.release(message.token)

    def park(self, message: ByHand) -> None:
        """Let go of a message once its copy is delivered."""
        if self.took(message):
            with suppress(Interrupted):
                self._outlets.park(message.raw, message.piece)
                message.piece.ends[offset_of(message.raw)] = Outcome.PARKED
                message.piece.release(message.token)

    def took(self, message: ByHand) -> bool:
        """Take a message off the desk; False when somebody did before."""
        return self._open.pop(message, message) is None

    def settled(self, message: ByHand) -> bool:
        """Tell whether something was said about a message."""
        return message not in self._open

    def ask_again(self, message: ByHand, delay_s: float) -> None:
        """Put a message down to be handled once more."""
        if self.took(message):
            self._again.append(Again(self._clock.monotonic() + delay_s, message))

    def due(self) -> Iterator[ByHand]:
        """Take out what is to be handled again now; the owner thread calls it."""
        now = self._clock.monotonic()
        for _ in range(len(self._again)):
            each = self._again.popleft()
            if each.due <= now:
                yield each.message
            elif not each.message.piece.cancelled:
                self._again.append(each)


class ByHand(Message):
    """A message that its handler settles itself."""

    __slots__ = ("desk", "piece", "token")

    desk: Desk
    piece: Piece
    token: Token

    def ack(self) -> None:
        """Say that the message is done."""
        self.desk.settle(self, Outcome.HANDLED)

    def nack(self, delay_s: float = 0.0) -> None:
        """Ask for the message again after ``delay_s`` seconds."""
        self.desk.ask_again(self, delay_s)

    def park(self) -> None:
        """Set a shadow message aside in its parking topic.

        Raises:
            SetupError: the message is a normal one: those are never set aside unhandled.
        """
        if self.mark is None:
            raise SetupError(f"{self}: a normal message cannot be parked; nack() asks for it again later")
        self.desk.park(self)

    def let_go(self) -> None:
        """Give its offset up to the piece in which it comes again."""
        self.piece.ends.pop(offset_of(self.raw), None)
        self.piece.release(self.token)

    @property
    def settled(self) -> bool:
        """Tell whether its end, or that it is wanted again, was said."""
        return self.desk.settled(self)


class ReturnedByHand(Returned, ByHand):
    """A message that came again from its retry topic, and that its handler settles itself."""

    __slots__ = ()
