"""The container daemon: the one that runs, or one that this module installs and starts.

The trap here: a daemon that was killed leaves its pid file behind, and the next one refuses to start while it is there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import docker  # type: ignore[import-untyped] # this room alone touches the untyped client
from docker.errors import DockerException, ImageNotFound, NotFound  # type: ignore[import-untyped] # likewise

from containers.host import ContainerGroundError, cache, installed, locked, may_install, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DockerException", "ImageNotFound", "NotFound", "connected", "ensure_daemon"]

SOCKET = "unix:///var/run/docker.sock"
PID_FILE = Path("/var/run/docker.pid")
PING_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0
STARTS = 2
LOG_TAIL_CHARS = 1500


def ensure_daemon() -> str:
    """Make sure that a container daemon answers, and give its address."""
    address = answering()
    if address:
        return address
    with locked("daemon"):
        address = answering()
        if address:
            return address
        refuse_where_none_can_be_started()
        installed("dockerd", "docker.io", "iptables")
        installed("iptables", "iptables")
        start()
    return SOCKET


def answering() -> str | None:
    """Give the address of the daemon that answers, or None."""
    address = os.environ.get("DOCKER_HOST") or SOCKET
    if pings(address):
        return address
    chosen = context_address()
    if chosen and chosen != address and pings(chosen):
        # The docker command knows its contexts; the Python client reads this variable only.
        os.environ["DOCKER_HOST"] = chosen
        return chosen
    return None


def pings(address: str) -> bool:
    """Say whether a daemon answers at this address."""
    if not listens(address):
        return False
    try:
        with connected(PING_TIMEOUT_S, address) as daemon:
            return bool(daemon.ping())
    except (DockerException, OSError):
        return False


def listens(address: str) -> bool:
    """Say whether something listens at a socket file; the client leaves its socket open where nothing does."""
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        return True
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(path) == 0


@contextmanager
def connected(timeout_s: float = 60.0, address: str | None = None) -> Iterator[docker.DockerClient]:
    """Give a client of the daemon at this address, or where the environment says, and close it afterwards."""
    opened = docker.DockerClient(base_url=address, timeout=timeout_s) if address else docker.from_env(timeout=timeout_s)
    try:
        yield opened
    finally:
        opened.close()


def context_address() -> str | None:
    """Give the address that the docker command's current context points to, or None."""
    if "DOCKER_HOST" in os.environ:
        return None
    try:
        return run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout_s=10).strip()
    except ContainerGroundError:
        return None


def refuse_where_none_can_be_started() -> None:
    """Raise, with the cure, where this process has no right or no way to start a daemon of its own."""
    named = os.environ.get("DOCKER_HOST")
    if named and named != SOCKET:
        raise ContainerGroundError(
            f"no container daemon answers at DOCKER_HOST={named}: start it, or unset DOCKER_HOST"
        )
    if not may_install():
        raise ContainerGroundError(
            f"no container daemon answers at {SOCKET}, and this process may not start one (that takes root on Debian "
            "or Ubuntu). Start Docker, or add your user to the group `docker`, then run this again"
        )


def start() -> None:
    """Start a daemon in a session of its own and wait until it answers."""
    log = cache() / "dockerd.log"
    for _ in range(STARTS):
        drop_stale_pid_file()
        daemon = launched(log)
        if answers_soon(daemon):
            return
        # What a killed daemon left running may need this first try to find its own end.
        say(f"dockerd ended with code {daemon.poll()}")
    raise ContainerGroundError(f"dockerd does not answer; its log {log} ends:\n{tail(log)}")


def launched(log: Path) -> subprocess.Popen[bytes]:
    """Run dockerd in the background, beyond the end of this process."""
    data = cache() / "docker"
    data.mkdir(exist_ok=True)
    say(f"starting dockerd, its data in {data}, its log in {log}")
    with log.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603 - the daemon that apt-get installed
            ["dockerd", "--data-root", str(data), "-H", SOCKET],  # noqa: S607 - found on the PATH
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )


def answers_soon(daemon: subprocess.Popen[bytes]) -> bool:
    """Wait for the daemon's first answer; False when it ended, or never gave one."""
    began = time.monotonic()
    while time.monotonic() - began < START_TIMEOUT_S and daemon.poll() is None:
        if pings(SOCKET):
            say(f"dockerd answers: {time.monotonic() - began:.1f} s")
            # It is meant to outlive this process: without this, its object would complain when collected.
            daemon.returncode = 0
            return True
        time.sleep(0.1)
    return False


def drop_stale_pid_file() -> None:
    """Remove the pid file of a daemon that no longer lives."""
    try:
        pid = int(PID_FILE.read_text())
    except FileNotFoundError:
        return
    except ValueError:
        pid = -1
    if not is_daemon(pid):
        say(f"removing {PID_FILE}, left by a daemon that is gone")
        PID_FILE.unlink(missing_ok=True)


def is_daemon(pid: int) -> bool:
    """Say whether this process lives and is a container daemon, not a later process with its number."""
    try:
        return b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def tail(log: Path) -> str:
    """Give the end of a log file."""
    return log.read_text(errors="replace")[-LOG_TAIL_CHARS:]
