"""What goes on beside everything else, in a thread of its own, from `start` to `end`.

Trap: threads do not come along into a process that is forked. So it begins with `start` and not with the object, and a
child that calls `start` has a thread of its own (``test_what_goes_on_beside_goes_on_in_a_child_too``).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Beside"]


class Beside:
    """Goes on inside a ``with`` block, or between `start` and `end`; what it does, a class of its own says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on from now; a second time, or after the end, changes nothing."""
        if not (self._running() or self._ended.is_set()):
            self._thread = threading.Thread(target=self._go_on, name=self._name, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Go on no more."""
        self._ended.set()
        if self._thread is not None and self._running():
            self._thread.join()

    def __enter__(self) -> Self:
        """Go on inside the block."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go on no more."""
        self.end()

    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _go_on(self) -> None:
        """Do it until ``_ended`` is set."""
        raise NotImplementedError
