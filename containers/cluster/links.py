"""The links between clients and brokers, each through Toxiproxy, and the ways to break one.

Upstream is what a client sends, downstream what it is answered. There is no packet loss for a stream: what it comes to
is `timeout` (nothing passes, the connection stays), `reset_peer` (it is torn down), `limit_data` (it ends in the middle
of an answer) and `slow_close` (its end arrives late).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from containers.images import ensure_toxiproxy_image
from containers.owned import LOOPBACK, OwnedContainer

if TYPE_CHECKING:
    from collections.abc import Mapping

API_TIMEOUT_S = 5.0
STREAMS = ("upstream", "downstream")


class Toxiproxy(OwnedContainer):
    """A started Toxiproxy on the machine's own network, so that it reaches brokers on loopback; Linux only."""

    def __init__(self, image: str | None = None) -> None:
        """Prepare a proxy without any link; `link` makes one."""
        super().__init__(image or ensure_toxiproxy_image(), port=0, host_network=True)
        self.with_command(["-host", LOOPBACK, "-port", str(self.port)])
        # Its own choice is to log every write.
        self.with_envs(LOG_LEVEL="warn")
        self._session = requests.Session()

    def answers(self) -> bool:
        """Say whether the proxy answers."""
        try:
            return self.asked("GET", "version").ok
        except requests.RequestException:
            return False

    def asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        """Ask the proxy's own interface."""
        address = f"http://{LOOPBACK}:{self.port}/{path}"
        return self._session.request(method, address, json=body, timeout=API_TIMEOUT_S)

    def link(self, name: str, port: int, target_port: int) -> Link:
        """Make a link: who connects to `port` reaches `target_port`."""
        ends = {"listen": f"{LOOPBACK}:{port}", "upstream": f"{LOOPBACK}:{target_port}"}
        self.asked("POST", "proxies", {"name": name, **ends, "enabled": True}).raise_for_status()
        return Link(self, name)

    def healed(self) -> None:
        """Take every toxic away and join every link."""
        self.asked("POST", "reset").raise_for_status()

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:  # noqa: FBT001, FBT002 - as declared above
        """Remove the proxy and close our connection to it."""
        self._session.close()
        super().stop(force=force, delete_volume=delete_volume)


class Link:
    """The way from all clients to one broker."""

    def __init__(self, proxy: Toxiproxy, name: str) -> None:
        """Stand for the link of this name."""
        self._proxy = proxy
        self._path = f"proxies/{name}"

    def cut(self) -> None:
        """Part the clients from the broker: open connections end, new ones are refused."""
        self._change({"enabled": False})

    def join(self) -> None:
        """Let connections through again."""
        self._change({"enabled": True})

    def delayed(self, latency_ms: int, jitter_ms: int = 0) -> None:
        """Delay each way."""
        self.spoiled("latency", {"latency": latency_ms, "jitter": jitter_ms})

    def narrowed(self, kilobytes_per_s: int) -> None:
        """Let only so much through each way."""
        self.spoiled("bandwidth", {"rate": kilobytes_per_s})

    def silenced(self, *streams: str) -> None:
        """Let nothing through and close nothing, as a network does that drops every packet."""
        self.spoiled("timeout", {"timeout": 0}, *streams)

    def torn(self, after_ms: int = 0) -> None:
        """Reset every connection after so long."""
        self.spoiled("reset_peer", {"timeout": after_ms})

    def truncated(self, after_bytes: int) -> None:
        """End every connection in the middle of an answer."""
        self.spoiled("limit_data", {"bytes": after_bytes}, "downstream")

    def closed_slowly(self, delay_ms: int) -> None:
        """Let the end of a connection arrive late."""
        self.spoiled("slow_close", {"delay": delay_ms})

    def spoiled(self, kind: str, attributes: Mapping[str, object], *streams: str) -> None:
        """Lay a toxic on the link, each way unless told which."""
        for stream in streams or STREAMS:
            toxic = {"name": f"{kind}_{stream}", "type": kind, "stream": stream, "attributes": dict(attributes)}
            self._proxy.asked("POST", f"{self._path}/toxics", toxic).raise_for_status()

    def healed(self) -> None:
        """Take every toxic away and join the link."""
        for toxic in self._proxy.asked("GET", f"{self._path}/toxics").json():
            self._proxy.asked("DELETE", f"{self._path}/toxics/{toxic['name']}").raise_for_status()
        self.join()

    def _change(self, to: Mapping[str, object]) -> None:
        self._proxy.asked("POST", self._path, to).raise_for_status()
