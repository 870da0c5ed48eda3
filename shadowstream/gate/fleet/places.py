"""Where in Redis what is shared lies, and the client that asks for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from shadowstream.errors import BrokerError, SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config.model import FleetSettings
    from shadowstream.lane import Lane

__all__ = ["Places", "answered", "connected", "patient", "script"]

PATIENT_S: Final = 2.0
"""A person waits longer for Redis than a process that has work to do."""


class Places:
    """The keys of one service's lane; in braces, so that a Redis Cluster keeps all of them in one slot."""

    def __init__(self, fleet: FleetSettings, lane: Lane) -> None:
        self._home = f"{{{fleet.service}.{lane}}}"
        self.members = f"{self._home}:members"
        """Members, by when they were last heard of."""
        self.runs = f"{self._home}:runs"
        """Runs, by when their leases end, in microseconds of the server's clock."""
        self.kills = f"{self._home}:kills"
        """How many kills there were."""
        self.breakers = f"{self._home}:breakers"
        """Breakers that are open, by when they half-open, in microseconds of the server's clock."""
        self.live = f"{self._home}:live"
        """What is laid over the configuration, and its version."""
        self.seen = f"{self._home}:seen"
        """The last kill that each member has seen."""

    def rate(self, command: str) -> str:
        """Return where a command's bucket is."""
        return f"{self._home}:rate:{command}"


def connected(fleet: FleetSettings) -> Any:  # noqa: ANN401 - the client's own, an extra
    """Return a client that gives up soon: its own timeouts are seconds, its own retries ten.

    Raises:
        SetupError: the client is not installed.
    """
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as missing:
        raise SetupError(
            "what is shared needs redis, which is not installed; run `pip install 'shadowstream[redis]'`"
        ) from missing
    return Redis.from_url(
        fleet.url,
        socket_timeout=fleet.timeout_s,
        socket_connect_timeout=fleet.timeout_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def patient(fleet: FleetSettings) -> FleetSettings:
    """Return the same for somebody at a terminal."""
    return replace(fleet, timeout_s=max(fleet.timeout_s, PATIENT_S))


@contextmanager
def answered() -> Iterator[None]:
    """Tell somebody at a terminal that Redis does not answer.

    Raises:
        BrokerError: inside the block it did not.
    """
    from redis import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise BrokerError(
            f"Redis does not answer ({error}): see to `fleet: url`; without it every shadow process stops by itself"
        ) from error


def script(client: Any, name: str) -> Any:  # noqa: ANN401 - as above
    """Return one of our scripts, to be called with ``keys`` and ``args``; the client loads it where it is missing."""
    return client.register_script(files(__package__).joinpath(name).read_text(encoding="utf-8"))
