"""The scrape: it works over HTTP, and nothing about it can hurt the worker."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from shadowstream.events import CommitFailed
from shadowstream.lane import Lane
from shadowstream.metrics import MetricsServer, PrometheusHook, serve, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


@pytest.fixture
def hook() -> PrometheusHook:
    return PrometheusHook()


@pytest.fixture
def server(hook: PrometheusHook) -> Iterator[MetricsServer]:
    server = serve(hook, 0, LOOPBACK)
    assert server is not None
    yield server
    server.close()


def scraped(server: MetricsServer, timeout_s: float = 5) -> str:
    with urlopen(f"http://{LOOPBACK}:{server.port}/metrics", timeout=timeout_s) as answer:
        text: bytes = answer.read()
    return text.decode()


def test_a_scrape_shows_the_numbers_of_now(hook: PrometheusHook, server: MetricsServer) -> None:
    for count in ("1.0", "2.0"):
        hook.on(CommitFailed(Lane.NORMAL, "fenced"))
        assert f'shadowstream_commit_failures_total{{lane="normal"}} {count}' in scraped(server)


def test_port_0_takes_any_free_port(hook: PrometheusHook, server: MetricsServer) -> None:
    other = serve(hook, 0, LOOPBACK)
    assert other is not None
    assert 0 < server.port != other.port > 0
    other.close()


def test_a_closed_server_gives_its_port_back(hook: PrometheusHook) -> None:
    first = serve(hook, 0, LOOPBACK)
    assert first is not None
    scraped(first)
    first.close()
    again = serve(hook, first.port, LOOPBACK)
    assert again is not None
    again.close()


def test_all_interfaces_is_the_default(hook: PrometheusHook) -> None:
    server = serve(hook, 0)
    assert server is not None
    assert "shadowstream_shadow_off" in scraped(server)
    server.close()


def test_a_taken_port_leaves_the_worker_running_and_names_the_cure(
    hook: PrometheusHook, server: MetricsServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve(hook, server.port, LOOPBACK) is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"metrics_off address={LOOPBACK} port={server.port} error=" in record.message
    assert "free the port" in record.message
    assert "shadowstream_shadow_off" in scraped(server)


@pytest.mark.parametrize(("address", "port"), [(LOOPBACK, 70_000), ("192.0.2.1", 0), ("no such address", 0)])
def test_an_address_that_cannot_be_had_is_logged_and_raises_nothing(
    hook: PrometheusHook, address: str, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve(hook, port, address) is None
    assert "metrics_off" in caplog.text


def test_a_hanging_scrape_blocks_no_other(hook: PrometheusHook, server: MetricsServer) -> None:
    with socket.create_connection((LOOPBACK, server.port)) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
        hook.on(CommitFailed(Lane.NORMAL, "fenced"))
        assert "shadowstream_commit_failures_total" in scraped(server)


def test_hanging_scrapes_are_bounded_and_close_waits_for_none(hook: PrometheusHook) -> None:
    server = serve(hook, 0, LOOPBACK)
    assert server is not None
    silent = [socket.create_connection((LOOPBACK, server.port)) for _ in range(serving.SEATS)]
    with socket.create_connection((LOOPBACK, server.port), timeout=5) as one_too_many:
        assert one_too_many.recv(1) == b"", "hung up on"
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 2
    for connection in silent:
        connection.close()


def test_a_scraper_that_went_away_frees_its_seat(server: MetricsServer) -> None:
    for _ in range(3 * serving.SEATS):
        socket.create_connection((LOOPBACK, server.port)).close()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert scraped(server)
            break
        except OSError:  # its thread has not noticed yet
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_silent_scraper_is_hung_up_on(hook: PrometheusHook) -> None:
    server = MetricsServer(hook.registry, LOOPBACK, 0, patience_s=0.1)
    with socket.create_connection((LOOPBACK, server.port), timeout=5) as silent:
        assert silent.recv(1) == b""
    server.close()
