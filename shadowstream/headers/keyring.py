"""The signing keys in use: one ring for all readers and writers of a configuration, turned while they work."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from shadowstream.headers.form import usable_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Keyring"]


class Keyring:
    """HMAC keys by id: the first one signs, all of them verify.

    Raises:
        SetupError: an id fits no mark, or a secret is empty.
    """

    __slots__ = ("__weakref__", "_signing", "_verifying", "generation", "on_use")

    def __init__(self, keys: Iterable[tuple[str, bytes]] = ()) -> None:
        self.generation = 0
        """How often it was turned: what was verified before is to be verified anew."""
        self.on_use: Callable[[], None] | None = None
        """Is called whenever a key is asked for, so that whoever looks for new ones need not begin before."""
        self._signing: tuple[str, bytes] | None = None
        self._verifying: Mapping[bytes, bytes] = MappingProxyType({})
        self.turn(keys)

    def turn(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Go by other keys from now on.

        Raises:
            SetupError: an id fits no mark, or a secret is empty; the keys stay as they are.
        """
        usable = usable_keys(keys)
        self._verifying = MappingProxyType({key_id.encode(): secret for key_id, secret in usable})
        self._signing = next(iter(usable), None)
        # Last: whoever sees the new number sees the new keys.
        self.generation += 1

    @property
    def signing(self) -> tuple[str, bytes] | None:
        """The key that signs, by its id; None when there is none."""
        if self.on_use is not None:
            self.on_use()
        return self._signing

    @property
    def verifying(self) -> Mapping[bytes, bytes]:
        """The keys that verify, by id."""
        if self.on_use is not None:
            self.on_use()
        return self._verifying
