"""Sends on a schedule, whatever comes back.

The load is open: a slow system does not slow it down, and every time is taken from the moment a message was meant to be
sent. A sender that waited for answers would leave out exactly the moments worth measuring (coordinated omission).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import count
from math import sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    OnDelivery = Callable[[Any, Any], None]
    Send = Callable[[str, OnDelivery], None]

__all__ = ["Load", "Stretch", "due_times", "steady"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some seconds during which the rate goes evenly from one number to another."""

    seconds: float
    from_per_s: float
    to_per_s: float

    @property
    def messages(self) -> float:
        """How many messages fall into it."""
        return self.seconds * (self.from_per_s + self.to_per_s) / 2

    def when(self, nth: float) -> float:
        """Return after how many seconds the nth message is due."""
        growth = (self.to_per_s - self.from_per_s) / self.seconds
        # The root of from*t + growth*t*t/2 = n, written so that a growth of 0 is no special case.
        return 2 * nth / (self.from_per_s + sqrt(max(self.from_per_s**2 + 2 * growth * nth, 0.0)))


def steady(rate_per_s: float, seconds: float) -> Stretch:
    """Return a stretch at one rate."""
    return Stretch(seconds, rate_per_s, rate_per_s)


def due_times(stretches: Sequence[Stretch]) -> Iterator[float]:
    """Give the seconds after the start at which each message is due, one stretch after the other."""
    began = 0.0
    for stretch in stretches:
        nth = 0
        # The first message of a stretch is due one interval into it: at its very start the rate may be 0.
        while nth + 1 <= stretch.messages + 1e-9:
            nth += 1
            yield began + stretch.when(nth)
        began += stretch.seconds


class Load:
    """One lane's sender, in a thread of its own; it may be started again once it finished.

    ``send`` gets a message's id and whom to tell when it is delivered.
    """

    def __init__(self, letter: str, send: Send) -> None:
        self.due: dict[str, float] = {}
        """Messages that the client took, by id: the monotonic second at which each was meant to be sent."""
        self.refused = 0
        """Messages that the client did not take, because its queue was full."""
        self.failure: BaseException | None = None
        """What ended the sender before its time."""
        self._letter = letter
        self._send = send
        self._numbers = count()
        self._unanswered: set[str] = set()
        self._undelivered: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, schedule: Sequence[Stretch]) -> None:
        """Begin a schedule now."""
        self._thread = threading.Thread(target=self._run, args=(schedule,), name=f"load-{self._letter}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing further."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def finished(self) -> bool:
        """Whether the schedule is done."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many messages the brokers have not answered for."""
        return len(self._unanswered)

    def sent(self) -> set[str]:
        """Return the ids of the messages that are on the log, as far as the brokers said."""
        return set(self.due) - self._undelivered - self._unanswered

    def _run(self, schedule: Sequence[Stretch]) -> None:
        began = time.monotonic()
        try:
            for offset_s in due_times(schedule):
                due = began + offset_s
                if self._stopping.wait(max(due - time.monotonic(), 0.0)):
                    return
                self._one(f"{self._letter}{next(self._numbers):06d}", due)
        except Exception as error:  # noqa: BLE001 - whoever started the load asks for it
            self.failure = error

    def _one(self, voucher_id: str, due: float) -> None:
        def reported(error: object, _message: object) -> None:
            if error is not None:
                self._undelivered.add(voucher_id)
            self._unanswered.discard(voucher_id)

        # Known before it is sent: the end of the chain may see it at once.
        self.due[voucher_id] = due
        self._unanswered.add(voucher_id)
        try:
            self._send(voucher_id, reported)
        except BufferError:
            del self.due[voucher_id]
            self._unanswered.discard(voucher_id)
            self.refused += 1
