"""The chain's services as processes, and the numbers on their pages.

Each runs as users run it, ``python -m shadowstream worker consumers.X.app:worker``, which is a process for each lane.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from shadowstream.errors import BrokerError, SetupError
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SERVICES", "Numbers", "Service", "Services", "checkout"]

SERVICES = ("uservoucher", "taskv2", "ss_business")
"""In the order of the chain."""
PORTS = range(30_000, 32_000, 2)
"""Below those that a kernel gives to clients: one that tries a port before its server is there may be given that very
port, talk to itself, and keep the server out."""
SCRAPE_S = 2.0
GRACE_S = 12.0
BREAKERS = ("closed", "half-open", "open")
"""As `shadowstream.metrics` numbers them."""
LAST_LINES = 8


def checkout() -> Path:
    """Return the folder that holds ``consumers`` and ``producers``.

    Raises:
        SetupError: they cannot be imported, or are somebody else's.
    """
    if importlib.util.find_spec("consumers") is None:
        sys.path.append(str(Path.cwd()))
    homes = {home_of("consumers", "uservoucher"), home_of("producers", "ss_distribution")}
    home = homes.pop()
    if homes or home is None:
        raise SetupError(
            "the voucher services (consumers/ and producers/) are not here: they are no part of the installed package."
            " Run the demo from a checkout of the repository: `make demo`, or `shadowstream demo` in its folder"
        )
    return home


def home_of(package: str, member: str) -> Path | None:
    """Return the folder that a package lies in, None when it is not there or has no such member."""
    found = importlib.util.find_spec(package)
    folder = Path(found.origin).parent if found is not None and found.origin else None
    return folder.parent if folder is not None and (folder / member).is_dir() else None


@dataclass(slots=True)
class Numbers:
    """What all pages of all services said at one time."""

    outcomes: Counter[tuple[str, Lane, str]] = field(default_factory=Counter)
    """Messages by Kafka topic, lane and outcome."""
    stepped_over: Counter[tuple[str, Lane]] = field(default_factory=Counter)
    breakers: dict[tuple[str, Lane], str] = field(default_factory=dict)
    """By command and lane."""
    opened: Counter[tuple[str, Lane]] = field(default_factory=Counter)
    """How often each breaker opened."""
    waits: Counter[tuple[str, Lane]] = field(default_factory=Counter)
    """How often a gate said wait, by command and lane."""
    assigned: set[tuple[str, Lane]] = field(default_factory=set)
    """Services whose lane has its partitions."""
    taken_away: int = 0
    """How often partitions were revoked or lost."""
    missing: list[str] = field(default_factory=list)
    """Pages that did not answer."""

    def outcomes_of(self, topic: str, lane: Lane) -> dict[str, int]:
        """Return a lane's outcomes on a Kafka topic."""
        return {
            outcome: count for (name, where, outcome), count in self.outcomes.items() if (name, where) == (topic, lane)
        }


@dataclass(slots=True)
class Service:
    """One service and its process."""

    name: str
    port: int
    """Of the normal lane's page; the shadow lane's is the next one."""
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, home: Path, environment: Mapping[str, str]) -> None:
        """Run it, both lanes."""
        command = [sys.executable, "-m", "shadowstream", "worker", f"consumers.{self.name}.app:worker"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                cwd=home,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops them in order
            )

    def last_words(self) -> str:
        """Return the end of what it wrote."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LAST_LINES:])


class Services:
    """The chain's services: started together, scraped together, stopped together."""

    def __init__(self, folder: Path) -> None:
        ports = port_pairs(len(SERVICES))
        self._services = [
            Service(name, port, folder / f"{name}.log") for name, port in zip(SERVICES, ports, strict=True)
        ]

    def start(self, home: Path, environment: Mapping[str, Mapping[str, str]]) -> None:
        """Start each with its own settings on top of this process's environment."""
        for service in self._services:
            own = {
                "SHADOWSTREAM_CONFIG": str(home / "consumers" / service.name / "shadowstream.yaml"),
                "SHADOWSTREAM__WORKER__METRICS_PORT": str(service.port),
                "VOUCHER_METRICS_ADDRESS": "127.0.0.1",
            }
            service.start(home, {**os.environ, **own, **environment[service.name]})

    def check(self) -> None:
        """See that all of them live.

        Raises:
            BrokerError: one has ended; its last lines are in the message.
        """
        for service in self._services:
            code = None if service.process is None else service.process.poll()
            if code is not None:
                raise BrokerError(f"service {service.name} ended with exit code {code}:\n{service.last_words()}")

    def numbers(self) -> Numbers:
        """Read every page."""
        numbers = Numbers()
        for service in self._services:
            for lane in Lane:
                text = page(service.port + (lane is Lane.SHADOW))
                if text is None:
                    numbers.missing.append(f"{service.name} {lane}")
                else:
                    read_page(text, service.name, numbers)
        return numbers

    def stop(self) -> None:
        """End them all: asked first, killed when that takes too long or somebody is in a hurry."""
        running = [each.process for each in self._services if each.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + GRACE_S
        try:
            for process in running:
                process.wait(max(until - time.monotonic(), 0.01))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in running:
                process.kill()
            for process in running:
                process.wait()

    def last_words(self) -> str:
        """Return the end of what each wrote, if it wrote anything."""
        return "\n".join(f"{each.name}:\n{words}" for each in self._services if (words := each.last_words()))


def page(port: int) -> str | None:
    """Return the text of one page, None when nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_S) as answer:
            text: str = answer.read().decode()
    except (URLError, OSError):
        return None
    return text


def read_page(text: str, service: str, numbers: Numbers) -> None:
    """Add one page's numbers."""
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            add_sample(sample.name.removeprefix("shadowstream_"), sample.labels, sample.value, service, numbers)


def add_sample(name: str, labels: Mapping[str, str], value: float, service: str, numbers: Numbers) -> None:
    """Add one number of a page."""
    lane = Lane(labels["lane"]) if "lane" in labels else Lane.NORMAL
    match name:
        case "messages_total":
            numbers.outcomes[labels["topic"], lane, labels["outcome"]] += int(value)
        case "stepped_over_total":
            numbers.stepped_over[labels["topic"], lane] += int(value)
        case "breaker_state":
            numbers.breakers[labels["command"], lane] = BREAKERS[int(value)]
        case "breaker_transitions_total" if labels["to"] == "open":
            numbers.opened[labels["command"], lane] += int(value)
        case "gate_decisions_total" if labels["verdict"] == "wait":
            numbers.waits[labels["command"], lane] += int(value)
        case "rebalances_total" if labels["change"] == "assigned":
            numbers.assigned.add((service, lane))
        case "rebalances_total":
            numbers.taken_away += int(value)
        case _:
            pass


def port_pairs(count: int) -> list[int]:
    """Return ports of which each and the next one are free.

    Raises:
        SetupError: there are not so many.
    """
    held: list[socket.socket] = []
    pairs: list[int] = []
    try:
        for port in random.sample(PORTS, len(PORTS)):
            if len(pairs) == count:
                return pairs
            with contextlib.suppress(OSError):
                held.append(bound(port))
                held.append(bound(port + 1))
                pairs.append(port)
    finally:
        close(held)
    raise SetupError(f"no {count} pairs of free ports between {PORTS.start} and {PORTS.stop}; end what listens there")


def bound(port: int) -> socket.socket:
    """Return a socket that holds a port on this machine's loopback."""
    holder = socket.socket()
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


def close(held: Iterable[socket.socket]) -> None:
    """Let go of the ports."""
    for each in held:
        each.close()
