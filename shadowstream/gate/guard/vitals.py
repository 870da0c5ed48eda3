"""How the normal lane is, written down by its process and read by the shadow lane's on the same host.

A file that is put in place whole, by a rename: no lock is shared, so whoever is stopped, slow or dead holds nobody up.
Times are of the monotonic clock, which all processes of a host have in common on Linux.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shadowstream.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Board", "Memo", "Vitals"]

LARGEST = 1_000_000
"""Bytes of a file that are read at most."""
LEFT_BEHIND_S = 86_400.0
"""Whoever is there writes four times a second."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the normal lane of one process is."""

    at: float
    """Monotonic second at which this was so."""
    calls: int = 0
    """Handler calls in the window."""
    p99_s: float = 0.0
    error_rate: float = 0.0
    """Failed calls, as a share of all in the window."""
    lag_growth_per_s: float = 0.0
    """Messages by which it falls behind; below 0 it catches up."""
    loop_lag_s: float = 0.0
    """By how much a thread of its process wakes late, at most, since the last time."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Calls a second, by command."""


class Memo:
    """Where the vitals are when both lanes are in one process."""

    def __init__(self) -> None:
        self._vitals: Vitals | None = None

    def write(self, vitals: Vitals) -> None:
        """Put new vitals in place of the last ones."""
        self._vitals = vitals

    def read(self) -> Vitals | None:
        """Return the last vitals; None when there are none."""
        return self._vitals

    def remove(self) -> None:
        """Take the vitals away: nobody writes them any more."""
        self._vitals = None


class Board:
    """Where one normal lane's vitals are, for its shadow in another process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.{os.getpid()}")

    @classmethod
    def of(cls, service: str, pair: str) -> Board:
        """Return the board of two lanes of a service that belong together, in a folder of this user's own.

        Raises:
            SetupError: there is such a folder, and it is somebody else's, or open to others; or none can be made.
        """
        home = Path(tempfile.gettempdir()) / f"shadowstream-{os.getuid()}"
        try:
            home.mkdir(mode=0o700, exist_ok=True)
            found = home.lstat()
        except OSError as error:
            raise SetupError(
                f"normal's vitals cannot be kept in {home} ({error}); set TMPDIR to another place"
            ) from error
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or home.is_symlink():
            raise SetupError(
                f"{home} is open to others, who could tell shadow that normal is well; remove it, or set TMPDIR"
            )
        # Not before it is known whose it is: another's files would be removed.
        _tidied(home)
        return cls(home / f"{service}.{pair}.vitals")

    def write(self, vitals: Vitals) -> None:
        """Put new vitals in place of the last ones."""
        self._next.write_text(json.dumps(asdict(vitals)), encoding="utf-8")
        self._next.replace(self._path)

    def read(self) -> Vitals | None:
        """Return the last vitals; None when there are none that can be read."""
        try:
            with self._path.open(encoding="utf-8") as file:
                found: dict[str, Any] = json.loads(file.read(LARGEST))
            return Vitals(**found)
        except (OSError, ValueError, TypeError):
            return None

    def remove(self) -> None:
        """Take the vitals away: nobody writes them any more."""
        self._path.unlink(missing_ok=True)


def _tidied(home: Path) -> None:
    """Remove what processes that were killed have left behind."""
    with suppress(OSError):
        for each in home.iterdir():
            if time.time() - each.stat().st_mtime > LEFT_BEHIND_S:
                each.unlink()
