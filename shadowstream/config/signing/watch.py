"""Looks for keys that came, went or changed, and turns the ring that everybody signs and verifies with.

It begins with the first use of a key, in each process anew, and ends when nobody has the ring any more. What is wrong
is logged once, and the last good keys stay in use. Traps:

* A secret may be seen while it is written: it is gone by when two looks in a row found the same
  (``test_a_secret_that_is_being_written_is_not_gone_by``).
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Final

from shadowstream.config.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from shadowstream.config.model import SigningKey
    from shadowstream.headers import Keyring

__all__ = ["KeyWatch"]

log = logging.getLogger("shadowstream.config")

LOOK_S: Final = 0.5
"""How often it looks."""


class KeyWatch(Beside):
    """Turns one keyring.

    ``read`` gives the keys that are there now, or what is wrong with them, as text; it is called when what is in
    ``config`` or in a key's file has changed.
    """

    def __init__(
        self,
        keyring: Keyring,
        config: Path,
        keys: Iterable[SigningKey],
        read: Callable[[], tuple[SigningKey, ...] | str],
    ) -> None:
        super().__init__("key-watch")
        self._keyring = weakref.ref(keyring)
        self._config, self._read = config, read
        self._in_use = tuple(keys)
        self._seen: list[bytes | None] | None = None
        """What the files held when the watch last read the keys; None: it did not yet."""
        self._candidate: list[bytes | None] | None = None
        """What the last look found."""

    def look(self) -> None:
        """Look once."""
        found = self._found()
        settled, self._candidate = found == self._candidate, found
        keyring = self._keyring()
        if not settled or found == self._seen or keyring is None:
            return
        self._seen = found
        keys = self._read()
        if isinstance(keys, str):
            log.error("keys_refused: the last good ones stay in use; %s", keys)
        elif keys != self._in_use:
            # Other files than before may be looked at from now on; they are read once more when they are settled.
            self._in_use = keys
            keyring.turn((key.id, key.secret) for key in keys)
            log.warning("keys_changed signing=%s verifying=%s", keys[0].id, ",".join(key.id for key in keys))

    def _go_on(self) -> None:
        while self._keyring() is not None and not self._ended.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                # Whatever it is, the last good keys stay in use, and the next look may go well.
                log.exception("key_watch_failed")

    def _found(self) -> list[bytes | None]:
        paths = [self._config, *(key.path for key in self._in_use if key.path is not None)]
        return [_held(path) for path in paths]


def _held(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
