"""The one thing that a wire must be able to do: say which headers are there, and change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

__all__ = ["Carrier", "Mapped", "Pairs", "ascii_bytes"]


class Carrier(Protocol):
    """The headers of one request or call; names are compared without case where the wire does so."""

    def values(self, name: str) -> list[bytes]:
        """Return a header's values, as many as there are."""
        ...

    def put(self, name: str, value: str) -> None:
        """Set a header, in place of all that are there."""
        ...

    def drop(self, name: str) -> None:
        """Take a header off, however often it is there."""
        ...


class Pairs:
    """Headers that are a list of pairs, with names in lower case; the list that is given stays as it is.

    ``spell`` writes names and values as the wire has them: as text, or as bytes.
    """

    __slots__ = ("_spell", "pairs")

    def __init__(self, pairs: Iterable[tuple[Any, Any]], spell: Callable[[str], str | bytes] = str) -> None:
        self._spell = spell
        self.pairs = [*pairs]
        """The headers as they are now."""

    def values(self, name: str) -> list[bytes]:
        """Return a header's values, as many as there are."""
        ours = self._spell(name.lower())
        return [ascii_bytes(value) for each, value in self.pairs if each == ours]

    def put(self, name: str, value: str) -> None:
        """Set a header, in place of all that are there."""
        self.drop(name)
        self.pairs.append((self._spell(name.lower()), self._spell(value)))

    def drop(self, name: str) -> None:
        """Take a header off, however often it is there."""
        ours = self._spell(name.lower())
        self.pairs = [pair for pair in self.pairs if pair[0] != ours]


class Mapped:
    """Headers that are a mapping, with names compared as the mapping does.

    ``all_of`` gives all values of a name, where the mapping may have several; setting and deleting mean all of them.
    """

    __slots__ = ("_all_of", "_mapping")

    def __init__(
        self, mapping: MutableMapping[str, str], all_of: Callable[[str], Iterable[str | bytes]] | None = None
    ) -> None:
        self._mapping, self._all_of = mapping, all_of or self._one_of

    def values(self, name: str) -> list[bytes]:
        """Return a header's values, as many as there are."""
        return [ascii_bytes(value) for value in self._all_of(name)]

    def put(self, name: str, value: str) -> None:
        """Set a header, in place of all that are there."""
        self._mapping[name] = value

    def drop(self, name: str) -> None:
        """Take a header off, however often it is there."""
        if name in self._mapping:
            del self._mapping[name]

    def _one_of(self, name: str) -> list[str]:
        return [self._mapping[name]] if name in self._mapping else []


def ascii_bytes(value: str | bytes) -> bytes:
    """Return a header's value as bytes; what is beyond Latin-1 is no mark, whatever becomes of it."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
