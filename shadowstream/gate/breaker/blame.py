"""Which errors are failures of the command: a voucher that does not exist says nothing of its downstream's health.

Errors are told by name, their own or that of any class they come from: ``ValueError``, or ``app.errors.NotFound``. So
a configuration names classes of programs that it never imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowstream.config.model import BreakerRule

__all__ = ["Blame"]


class Blame:
    """Tells what a rule makes of an error; remembers it by class."""

    __slots__ = ("_counted", "_ignored", "_known")

    def __init__(self, rule: BreakerRule) -> None:
        self._counted, self._ignored = frozenset(rule.count), frozenset(rule.ignore)
        self._known: dict[type[BaseException], bool] = {}

    def falls_on(self, error: BaseException | None) -> bool:
        """Tell whether a failed call counts as the command's failure; one of unknown cause does."""
        if error is None or not (self._counted or self._ignored):
            return True
        kind = type(error)
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = self._judged(kind)
        return known

    def _judged(self, kind: type[BaseException]) -> bool:
        names = {
            name for each in kind.__mro__ for name in (each.__qualname__, f"{each.__module__}.{each.__qualname__}")
        }
        if self._ignored & names:
            return False
        return not self._counted or bool(self._counted & names)
