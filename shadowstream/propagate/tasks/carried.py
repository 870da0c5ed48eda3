"""Functions that are called elsewhere, in the lane in which they were handed over."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from shadowstream.lane import entered, mark_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from shadowstream.lane import Mark

__all__ = ["LaneExecutor", "carried"]

P = ParamSpec("P")
R = TypeVar("R")


class _Carried(Generic[P, R]):
    """A class and no closure, so that it goes to another process with its function."""

    __slots__ = ("_function", "_mark")

    def __init__(self, function: Callable[P, R], mark: Mark | None) -> None:
        self._function, self._mark = function, mark

    def __call__(self, *arguments: P.args, **more: P.kwargs) -> R:
        with entered(self._mark):
            return self._function(*arguments, **more)


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as it is to be called elsewhere: in the lane of the work at hand now.

    ``Thread(target=carried(work))``, ``pool.submit(carried(work), voucher)``; it can be pickled when the function can.
    """
    return _Carried(function, mark_here())


class LaneExecutor(Executor):
    """Hands work to another executor, of threads or processes, each in the lane of whoever submitted it."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **more: P.kwargs) -> Future[R]:
        """Schedule a call in the lane of the work at hand."""
        return self._inner.submit(carried(function), *arguments, **more)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as declared
        """Shut the inner executor down."""
        self._inner.shutdown(wait, cancel_futures=cancel_futures)
