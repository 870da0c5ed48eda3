"""One real Redis server for tests and benchmarks, gone with the process that started it."""

from __future__ import annotations

import redis

from containers.images import ensure_redis_image
from containers.owned import LOOPBACK, OwnedContainer

CLIENT_PORT = 6379


class RedisContainer(OwnedContainer):
    """A started Redis server that clients reach at `url`; it keeps nothing on disk."""

    def __init__(self, image: str | None = None, *, host_network: bool = False) -> None:
        """Prepare a server without snapshots and append file, so that a kill loses all, as a lost node would."""
        super().__init__(image or ensure_redis_image(), port=CLIENT_PORT, host_network=host_network)
        bind = LOOPBACK if host_network else "0.0.0.0"  # noqa: S104 - inside the container
        listen = ["--bind", bind, "--port", str(self.inner_port), "--protected-mode", "no"]
        nothing_kept = ["--save", "", "--appendonly", "no"]
        # So that a test may have it load its data anew, which `DEBUG RELOAD` does.
        self.with_command(["redis-server", *listen, *nothing_kept, "--enable-debug-command", "yes"])

    @property
    def url(self) -> str:
        """The address for `redis.Redis.from_url`, database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def answers(self) -> bool:
        """Say whether the server answers a real client."""
        client = redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
