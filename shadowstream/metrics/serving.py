"""The HTTP server that is scraped: daemon threads, a few at a time, none for long.

Nothing that a scraper does, or fails to do, reaches the worker: past `SEATS` connections the next one is hung up on,
and one that is silent for `PATIENCE_S` is too (guarded by ``test_a_hanging_scrape_blocks_no_other``).
"""

from __future__ import annotations

import socket
import socketserver
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import MetricsHandler

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["PATIENCE_S", "SEATS", "MetricsServer"]

SEATS = 8
"""Scrapes at the same time."""

PATIENCE_S = 10.0
"""How long one read or write of a scrape may take."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 4 * SEATS

    def __init__(self, place: tuple[str, int], handler: type[MetricsHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._seats = threading.BoundedSemaphore(SEATS)
        super().__init__(place, handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse look-up of our own name, which hangs where DNS does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Give the connection a thread, or hang up on it when all seats are taken."""
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._seats.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """Answer, and free the seat."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Say nothing: a scraper that went away is not our trouble."""


class MetricsServer:
    """Answers scrapes until closed.

    Raises:
        OSError: the address cannot be bound.
        OverflowError: the port is not between 0 and 65535.
    """

    __slots__ = ("_server", "_thread", "port")

    def __init__(self, registry: CollectorRegistry, address: str, port: int, *, patience_s: float = PATIENCE_S) -> None:
        handler = type("_Handler", (MetricsHandler.factory(registry),), {"timeout": patience_s})
        self._server = _Server((address, port), handler)
        self.port: int = self._server.server_address[1]
        """The port it listens on, also when any free one was asked for."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="shadowstream-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; scrapes under way are left to end by themselves."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
