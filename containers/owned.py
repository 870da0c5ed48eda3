"""A container that ends with the process that started it.

Each carries the process in its labels: `shadowstream.owner` (pid), `shadowstream.host` and `shadowstream.born`. It is
removed by the context manager, or when the process ends; what a killed process left is removed by the next one that
starts a container. (testcontainers' own reaper is one more image to pull, so it is switched off.)
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from containers.daemon import DockerException, NotFound, connected
from containers.host import ContainerGroundError, say

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
OWNER, HOST, BORN = "shadowstream.owner", "shadowstream.host", "shadowstream.born"
# Below the ports that the kernel gives to clients: a port stays free while its container is down.
PORTS = range(20_000, 30_000)
GIVEN: set[int] = set()
"""Ports that this process has chosen before: nothing may listen on them yet."""
ERRORS = ("ERROR", "FATAL", "Exception")
LOG_TAIL_LINES = 25


class OwnedContainer(DockerContainer):
    """One server in a container, on one loopback port that stays the same until the container is removed."""

    def __init__(self, image: str, *, port: int, command: Sequence[str] | None = None, host_network: bool) -> None:
        """Prepare the container; `start` or the context manager starts it."""
        testcontainers_config.ryuk_disabled = True
        super().__init__(image)
        self.port = free_port()
        self.inner_port = self.port if host_network else port
        self._pid = os.getpid()
        self.with_kwargs(labels=labels(), **({"network_mode": "host"} if host_network else {}))
        if command is not None:
            self.with_command([*command])
        if not host_network:
            # testcontainers declares plain numbers only, though Docker also takes the address to listen on.
            self.ports = cast("dict[str, int | None]", {f"{port}/tcp": (LOOPBACK, self.port)})

    def start(self) -> Self:
        """Start the container and return once the server in it answers a real client."""
        sweep()
        atexit.register(self.removed_at_exit)
        super().start()
        self.wait_until_ready()
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:  # noqa: FBT001, FBT002 - as declared above
        """Remove the container, whatever state it is in."""
        atexit.unregister(self.removed_at_exit)
        with contextlib.suppress(NotFound):
            super().stop(force=force, delete_volume=delete_volume)

    def removed_at_exit(self) -> None:
        """Remove the container at the end of the process that started it, and not of one forked from that."""
        if os.getpid() == self._pid:
            with contextlib.suppress(DockerException, OSError):
                self.stop()

    def kill(self) -> None:
        """End the server at once, as `kill -9` does; what it wrote to its disk stays."""
        inner = self.get_wrapped_container()
        inner.kill()
        inner.wait()

    def pause(self) -> None:
        """Freeze the server: its connections stay open and nothing answers.

        By a signal, not by the daemon's pause: that gives up when the processes do not freeze fast enough.
        """
        self.get_wrapped_container().kill(signal="SIGSTOP")

    def unpause(self) -> None:
        """Let a frozen server go on."""
        self.get_wrapped_container().kill(signal="SIGCONT")

    def restart(self) -> None:
        """Start the server again, on the same port and the same disk, killing it first if it runs."""
        self.reload()
        if self.status in {"running", "paused"}:
            self.kill()
        self.get_wrapped_container().start()
        self.wait_until_ready()

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until a real client gets an answer; raise with the end of the log if it never does."""
        until = time.monotonic() + timeout_s
        while not self.answers():
            self.reload()
            if self.status != "running" or time.monotonic() > until:
                log = telling(self.get_wrapped_container().logs().decode(errors="replace"))
                raise ContainerGroundError(f"{self.image} is {self.status} and does not answer; its log says:\n{log}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Say whether the server answers a real client."""
        raise NotImplementedError


def telling(log: str) -> str:
    """Give what a log says of errors, and its end: a server that goes down says why long before its last line."""
    lines = log.splitlines()
    before = lines[:-LOG_TAIL_LINES]
    errors = [line for line in before if any(word in line for word in ERRORS)]
    return "\n".join([*errors[:LOG_TAIL_LINES], *lines[-LOG_TAIL_LINES:]])


def labels() -> dict[str, str]:
    """Give the labels that tell whose container this is."""
    pid = os.getpid()
    return {OWNER: str(pid), HOST: socket.gethostname(), BORN: born(pid)}


def born(pid: int) -> str:
    """Give the moment a process began, in the kernel's own ticks, so that a later one with its number is told apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def sweep() -> None:
    """Remove the containers of this machine whose process is gone."""
    ours = {"label": [OWNER, f"{HOST}={socket.gethostname()}"]}
    with connected() as daemon:
        # A container that another process removes meanwhile is no error: `ignore_removed`.
        for left in daemon.containers.list(all=True, filters=ours, ignore_removed=True):
            if orphaned(left.labels):
                say(f"removing {left.name}, left by process {left.labels[OWNER]} that is gone")
                with contextlib.suppress(DockerException):
                    left.remove(force=True, v=True)


def orphaned(found: dict[str, str]) -> bool:
    """Say whether the process that these labels name is gone."""
    pid = int(found[OWNER])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return born(pid) != found.get(BORN, "")


def free_port() -> int:
    """Choose a loopback port that nothing listens on now, another one each time."""
    for port in random.sample(sorted(set(PORTS) - GIVEN), 100):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((LOOPBACK, port))
            GIVEN.add(port)
            return port
    raise ContainerGroundError(f"no free port between {PORTS.start} and {PORTS.stop} on {LOOPBACK}")
