"""The mark of the work at hand, put among the headers of a message that is made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shadowstream.errors import MarkError
from shadowstream.lane import mark_here

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shadowstream.headers import MarkWriter

    Headers = list[tuple[str, bytes]]

__all__ = ["stamped"]


def stamped(writer: MarkWriter, headers: Iterable[tuple[str, bytes]] | None) -> Headers | None:
    """Return a message's headers with the mark of the work at hand; a mark that was forwarded by hand makes way.

    Raises:
        MarkError: the work at hand is normal, and they carry a mark.
    """
    mark, name = mark_here(), writer.name
    pairs = None if headers is None else list(headers)
    if mark is not None:
        kept = [pair for pair in pairs or () if pair[0] != name]
        return [*kept, (name, writer.onward(mark, time.time()))]
    if pairs is not None and any(each == name for each, _ in pairs):
        raise MarkError(f"the message carries {name} already but the work at hand is normal; leave it out")
    return pairs
