"""This machine, as the container ground needs it: a voice, a command runner, a cache, a lock and apt.

Everything here is for people who run the tests: `say` tells them what is under way on stderr, `Failed` tells them
what is missing, where, and the cure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TAIL_LINES = 15


class ContainerGroundError(Exception):
    """Containers cannot stand on this machine; the message says what is missing, where, and the cure."""


def say(line: str) -> None:
    """Tell the person who waits, on stderr, what is under way."""
    sys.stderr.write(f"containers: {line}\n")
    sys.stderr.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and how many seconds it took once it is done."""
    say(f"{what} ...")
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


def run(
    command: Sequence[str], *, timeout_s: float = 900, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run one command to its end and give its output, or raise with the last lines it wrote."""
    try:
        done = subprocess.run(  # noqa: S603 - every caller passes a literal list, never a shell line
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as missing:
        raise ContainerGroundError(f"`{command[0]}` is not on the PATH: install it") from missing
    except subprocess.TimeoutExpired as slow:
        raise ContainerGroundError(f"`{' '.join(command)}` was not done after {timeout_s:.0f} s") from slow
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise ContainerGroundError(f"`{' '.join(command)}` ended with code {done.returncode}:\n{tail}")
    return done.stdout


def cache() -> Path:
    """Give the folder where everything built or fetched is kept between runs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "shadowstream"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process of this user at a time do the named work; the others wait and say so."""
    with (cache() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is at work on the {name}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def may_install() -> bool:
    """Say whether this process may install system packages: root on a machine with apt-get."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def installed(program: str, *packages: str) -> None:
    """Install the packages through apt-get unless the program is already on the PATH."""
    if shutil.which(program):
        return
    if not may_install():
        raise ContainerGroundError(
            f"`{program}` is not on the PATH, and this process may not install it (that takes root and apt-get). "
            f"Install it yourself, on Debian or Ubuntu: sudo apt-get install {' '.join(packages)}"
        )
    with step(f"apt-get install {' '.join(packages)}"):
        run(["apt-get", "-qq", "update"])
        # Without a policy a package's script would start its own service with its own settings.
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages], env=quiet)
