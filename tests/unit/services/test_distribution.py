"""Claims over HTTP: the mark is read by Kafka's rules, and what cannot be trusted becomes no message."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from producers.ss_distribution.__main__ import main, parser
from producers.ss_distribution.edge import Edge

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIM = {"voucher_id": "v1", "user_id": "u1", "promotion_id": "p1"}


@dataclass
class Service:
    """Stands for the service: keeps the claims, or fails them."""

    error: Exception | None = None
    delivery_error: Any = None
    claims: list[tuple[str, str, str]] = field(default_factory=list)
    marks: list[Any] = field(default_factory=list)

    def claim(self, voucher_id: str, user_id: str, promotion_id: str, *, on_delivery: Any, mark_headers: Any) -> None:
        if self.error is not None:
            raise self.error
        self.claims.append((voucher_id, user_id, promotion_id))
        self.marks.append(mark_headers)
        on_delivery(self.delivery_error, None)


@contextmanager
def serving(service: Any) -> Iterator[http.client.HTTPConnection]:
    with Edge(("127.0.0.1", 0), service, "x-shadow") as edge:
        thread = threading.Thread(target=edge.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", edge.server_port, timeout=10)
        try:
            yield connection
        finally:
            connection.close()
            edge.shutdown()
            thread.join()


def asked(
    connection: http.client.HTTPConnection, body: bytes, *headers: tuple[str, str], path: str = "/claim"
) -> tuple[int, dict[str, str]]:
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(len(body)))
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_claim_is_accepted_once_kafka_has_it() -> None:
    service = Service()
    with serving(service) as connection:
        assert asked(connection, json.dumps(CLAIM).encode()) == (202, {"voucher_id": "v1", "status": "claimed"})

    assert service.claims == [("v1", "u1", "p1")]
    assert service.marks == [[]]


def test_every_mark_header_is_passed_on_whatever_its_case() -> None:
    service = Service()
    with serving(service) as connection:
        asked(connection, json.dumps(CLAIM).encode(), ("X-Shadow", "1;run=a"), ("x-shadow", "1;run=b"))

    assert service.marks == [[("x-shadow", b"1;run=a"), ("x-shadow", b"1;run=b")]]


@pytest.mark.parametrize(
    "headers",
    [
        [("x-shadow", "")],
        [("x-shadow", "TRUE")],
        [("x-shadow", "v9")],
        [("x-shadow", "1;run=a"), ("x-shadow", "1;run=b")],
        [("x-shadow", "1;run=UPPER")],
        [("x-shadow", "\xff")],
    ],
)
def test_a_mark_that_cannot_be_trusted_is_answered_with_400_and_becomes_no_message(
    headers: list[tuple[str, str]], distribution: Any
) -> None:
    with serving(distribution) as connection:
        status, answer = asked(connection, json.dumps(CLAIM).encode(), *headers)

    assert status == 400
    assert "the mark cannot be trusted" in answer["error"]


@pytest.fixture
def distribution(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real service; no broker is there, and none is needed to refuse."""
    from producers.ss_distribution.service import Distribution

    monkeypatch.setenv("SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS", "127.0.0.1:1")
    return Distribution(ss.load(parser().parse_args([]).config))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"voucher_id": "v1", "user_id": "u1"}', "promotion_id"),
        (b'{"voucher_id": 7, "user_id": "u1", "promotion_id": "p1"}', "voucher_id is 7"),
        (b'{"voucher_id": "", "user_id": "u1", "promotion_id": "p1"}', "1 to 128"),
        (json.dumps({**CLAIM, "user_id": "u" * 200}).encode(), "1 to 128"),
    ],
)
def test_a_wrong_claim_is_answered_with_what_is_wrong(body: bytes, says: str) -> None:
    service = Service()
    with serving(service) as connection:
        status, answer = asked(connection, body)

    assert status == 400
    assert says in answer["error"]
    assert service.claims == []


def test_too_large_a_body_is_not_read() -> None:
    with serving(Service()) as connection:
        connection.putrequest("POST", "/claim")
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (Service(error=BufferError("full")), "too many claims"),
        (Service(error=ss.ConfigError(())), "shadow traffic is off"),
    ],
)
def test_what_may_work_later_is_answered_with_503(service: Service, says: str) -> None:
    with serving(service) as connection:
        status, answer = asked(connection, json.dumps(CLAIM).encode())

    assert status == 503
    assert says in answer["error"]


def test_an_undelivered_claim_is_no_claim() -> None:
    class TimedOut:
        def str(self) -> str:
            return "timed out"

    with serving(Service(delivery_error=TimedOut())) as connection:
        status, answer = asked(connection, json.dumps(CLAIM).encode())

    assert status == 503
    assert "timed out" in answer["error"]


def test_health_and_unknown_paths_are_told_apart() -> None:
    with serving(Service()) as connection:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})
        connection.request("GET", "/elsewhere")
        answer = connection.getresponse()
        assert answer.status == 404
        answer.read()
        assert asked(connection, b"{}", path="/elsewhere")[0] == 404


def test_a_wrong_configuration_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_a_taken_port_is_one_clear_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Edge(("127.0.0.1", 0), Service(), "x-shadow") as edge:  # type: ignore[arg-type] # stands for it
        assert main(["--port", str(edge.server_port), "--log-level", "error"]) == 2

    assert "use another --port" in capsys.readouterr().err


def test_help_teaches_how_to_claim(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "curl -H 'x-shadow: 1;run=fcst-1111'" in capsys.readouterr().out
