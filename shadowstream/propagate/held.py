"""Work that is done bit by bit, by whoever asks for the next bit: each bit is done in the lane it was begun in."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Generic, TypeVar

from shadowstream.lane import entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from shadowstream.lane import Mark

__all__ = ["Held"]

T = TypeVar("T")


class Held(Generic[T]):
    """An iterable that is made, asked for each part and closed in one context, in the lane of a mark."""

    __slots__ = ("_context", "_iterator", "_parts")

    def __init__(self, mark: Mark | None, make: Callable[[], Iterable[T]]) -> None:
        self._context = copy_context()
        # Never left: the context is this object's own.
        self._context.run(entered(mark).__enter__)
        self._parts = self._context.run(make)
        self._iterator: Iterator[T] | None = None

    def __iter__(self) -> Self:
        """Be its own iterator."""
        return self

    def __next__(self) -> T:
        """Make the next part."""
        if self._iterator is None:
            self._iterator = self._context.run(iter, self._parts)
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        """Close what makes the parts, where it can be closed."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            self._context.run(close)
