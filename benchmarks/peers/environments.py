"""A peer's environment: made from its lock, once, in the cache folder; another lock makes another one."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containers.host import cache, locked, run, step

if TYPE_CHECKING:
    from benchmarks.peers.sides import Side

__all__ = ["LOCKS", "Unavailable", "interpreter"]

LOCKS: Final = Path(__file__).with_name("locks")


class Unavailable(Exception):  # noqa: N818 - a state of this machine, told to the person and gone on from
    """A peer cannot take part on this machine; the message says what it lacks, and the cure."""


def interpreter(side: Side) -> Path:
    """Return the Python that runs a side, making its environment if this lock has none yet.

    Raises:
        Unavailable: this machine lacks the Python that the side needs.
    """
    if side.environment is None:
        return Path(sys.executable)
    name, python = side.environment or side.name, _found(side)
    folder = cache() / "peers" / f"{name}-{key(LOCKS / f'{name}.lock', python)}"
    with locked(f"peer-{name}"):
        if not (folder / "ready").exists():
            _made(name, folder, python)
    return folder / "bin" / "python"


def key(lock: Path, python: str) -> str:
    """Return what names an environment: a digest of its lock and of the interpreter's version."""
    return hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()[:12]


def _made(name: str, folder: Path, python: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = [sys.executable, "-m", "uv"]
    with step(f"environment of {name}, from benchmarks/peers/locks/{name}.lock"):
        run([*uv, "venv", "--quiet", "--no-project", "--python", python, str(folder)])
        lock = str(LOCKS / f"{name}.lock")
        target = ["--python", str(folder / "bin" / "python")]
        run([*uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", lock, *target])
    (folder / "ready").touch()


def _found(side: Side) -> str:
    if side.python is None or platform.python_version().startswith(f"{side.python}."):
        return sys.executable
    for path in _candidates(side.python):
        if _answers(path, side.python):
            return path
    raise Unavailable(
        f"{side.name} needs Python {side.python}, and neither the PATH nor pyenv has one that runs; "
        f"install it, or leave the side out with --sides"
    )


def _candidates(version: str) -> list[str]:
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    on_path = shutil.which(f"python{version}")
    return [*([on_path] if on_path else []), *map(str, sorted(kept.glob(f"{version}.*/bin/python{version}")))]


def _answers(path: str, version: str) -> bool:
    # A shim on the PATH may stand for nothing.
    said = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and said.stdout.startswith(f"Python {version}.")
