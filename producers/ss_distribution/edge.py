"""The HTTP edge of ss_distribution.

A mark comes as the HTTP header of the same name as in Kafka and is read by the same rules, by the producer itself: what
cannot be trusted is refused here, where somebody can still be told, and never becomes a message.
"""

from __future__ import annotations

import json
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import shadowstream as ss

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka import Message as RawMessage

    from producers.ss_distribution.service import Distribution

__all__ = ["Claims", "Edge", "RefusedClaimError"]

log = logging.getLogger("ss_distribution")

FIELDS = ("voucher_id", "user_id", "promotion_id")
MAX_BODY = 64 * 1024
MAX_TEXT = 128
DELIVERY_S = 5.0
PATIENCE_S = 10.0


class RefusedClaimError(Exception):
    """A claim that is answered with an error."""

    def __init__(self, status: HTTPStatus, error: str) -> None:
        self.status = status
        self.error = error
        super().__init__(error)


class Edge(ThreadingHTTPServer):
    """Answers ``POST /claim`` and ``GET /healthz``."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: Distribution, mark_header: str) -> None:
        self.service = service
        self.mark_header = mark_header
        super().__init__(address, Claims)


class Claims(BaseHTTPRequestHandler):
    """One connection."""

    server: Edge
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Say that the service lives."""
        if self.path == "/healthz":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {self.path}; use POST /claim or GET /healthz"})

    def do_POST(self) -> None:
        """Claim one voucher; answered once Kafka has it."""
        try:
            voucher = claim_of(self._body())
            self._claim(voucher)
        except RefusedClaimError as refused:
            self._answer(refused.status, {"error": refused.error})
        else:
            self._answer(HTTPStatus.ACCEPTED, {"voucher_id": voucher["voucher_id"], "status": "claimed"})

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the signature it overrides
        """Log a request like everything else."""
        log.info("%s %s", self.address_string(), format % arguments)

    def _body(self) -> bytes:
        if self.path != "/claim":
            self.close_connection = True
            raise RefusedClaimError(HTTPStatus.NOT_FOUND, f"there is no {self.path}; use POST /claim")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise RefusedClaimError(HTTPStatus.LENGTH_REQUIRED, "send the claim as JSON, with a Content-Length")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise RefusedClaimError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a claim has at most {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def _claim(self, voucher: dict[str, str]) -> None:
        delivered = threading.Event()
        failures: list[str] = []

        def reported(error: KafkaError | None, _message: RawMessage) -> None:
            if error is not None:
                failures.append(error.str())
            delivered.set()

        unavailable = HTTPStatus.SERVICE_UNAVAILABLE
        try:
            self.server.service.claim(**voucher, on_delivery=reported, mark_headers=self._mark_headers())
        except ss.ConfigError as error:
            raise RefusedClaimError(unavailable, f"shadow traffic is off here: {error}") from error
        except ValueError as error:
            raise RefusedClaimError(HTTPStatus.BAD_REQUEST, f"the mark cannot be trusted: {error}") from error
        except BufferError as error:
            raise RefusedClaimError(unavailable, f"too many claims wait: {error}") from error
        if not delivered.wait(DELIVERY_S):
            raise RefusedClaimError(unavailable, f"Kafka did not answer within {DELIVERY_S:g} s; try again")
        if failures:
            raise RefusedClaimError(unavailable, f"Kafka did not take the claim: {failures[0]}; try again")

    def _mark_headers(self) -> list[tuple[str, str | bytes | None]]:
        """Return each mark header as it came; HTTP does not tell upper from lower case in names, Kafka does."""
        name = self.server.mark_header
        return [(name, value.encode("latin-1")) for value in self.headers.get_all(name, [])]

    def _answer(self, status: HTTPStatus, content: dict[str, str]) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def claim_of(body: bytes) -> dict[str, str]:
    """Return the fields of a claim.

    Raises:
        RefusedClaimError: the body is not JSON, or a field is missing or no short text.
    """
    wrong = HTTPStatus.BAD_REQUEST
    try:
        content = json.loads(body)
    except ValueError as error:
        raise RefusedClaimError(wrong, f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RefusedClaimError(wrong, f"the body is not a JSON object with {', '.join(FIELDS)}")
    for name in FIELDS:
        value = content.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
            raise RefusedClaimError(wrong, f"{name} is {value!r:.80}; send a text of 1 to {MAX_TEXT} characters")
    return {name: content[name] for name in FIELDS}
