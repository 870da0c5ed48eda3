"""Which letters somebody meant: an exception, a key, a run, a stretch of offsets; all of them must agree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shadowstream.errors import SetupError
from shadowstream.lane import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shadowstream.headers import Reading
    from shadowstream.kafka.letters.letter import Letter

    Test = Callable[[Letter, Reading], bool]

__all__ = ["Selection", "selection_of"]

STRETCH = re.compile(r"(?:(?P<partition>[0-9]{1,9}):)?(?P<first>[0-9]{1,18})(?P<to>-(?P<last>[0-9]{1,18})?)?", re.ASCII)
EXCEPTION = re.compile(r"[\w.$<>]+")


@dataclass(frozen=True, slots=True)
class Selection:
    """Some of a box's letters; without tests, all of them."""

    tests: tuple[Test, ...] = ()

    def takes(self, letter: Letter, reading: Reading) -> bool:
        """Tell whether a letter with this mark is meant."""
        return all(test(letter, reading) for test in self.tests)


def selection_of(texts: Iterable[str]) -> Selection:
    """Read what somebody wrote after ``--match``.

    Raises:
        SetupError: one of them says nothing that letters can be told by.
    """
    return Selection(tuple(map(_test, texts)))


def _test(text: str) -> Test:
    name, equals, value = text.partition("=")
    if not equals and EXCEPTION.fullmatch(text):
        return lambda letter, _: _raised(letter, text)
    if name == "key":
        key = value.encode(errors="surrogateescape")
        return lambda letter, _: letter.raw.key() == key
    if name == "run" and RUN_ID.fullmatch(value):
        return lambda _, reading: reading.mark is not None and reading.mark.run == value
    if name == "offset" and (stretch := STRETCH.fullmatch(value)):
        return _within(stretch)
    raise SetupError(
        f"--match {text!r}: write an exception's class (ValueError, app.errors.NoVoucher), key=KEY, run=RUN,"
        " offset=FIRST-LAST (last included, open when left out) or offset=PARTITION:FIRST-LAST"
    )


def _raised(letter: Letter, wanted: str) -> bool:
    """Compare names or their last parts: ``ValueError`` finds ``builtins.ValueError`` and no ``MyValueError``."""
    names = (letter.story.exception, letter.story.cause)
    return any(name is not None and f".{name}".endswith(f".{wanted}") for name in names)


def _within(stretch: re.Match[str]) -> Test:
    first = int(stretch["first"])
    last = None if stretch["to"] and not stretch["last"] else int(stretch["last"] or first)
    partition = None if stretch["partition"] is None else int(stretch["partition"])
    if last is not None and last < first:
        raise SetupError(f"--match offset={stretch[0]}: {last} is before {first}; write the smaller offset first")

    def within(letter: Letter, _: Reading) -> bool:
        here = partition in {None, letter.partition}
        return here and first <= letter.offset and (last is None or letter.offset <= last)

    return within
