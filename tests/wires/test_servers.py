"""Requests through real servers and frameworks: whatever answers them is in the lane of the request's mark."""

from __future__ import annotations

import json
import threading

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import shadowstream as ss
from shadowstream.propagate.servers import asgi, wsgi
from tests.signals import RUN, signed
from tests.waiting import until
from tests.wires.apps import APPS, LATER, PARTS


@pytest.fixture(params=APPS)
def app(request):
    return APPS[request.param]


@pytest.fixture
def url(app, serve, propagator):
    kind, make = app
    LATER.clear()
    return serve(kind, make(propagator))


def asked(url: str, path: str, *marks: str) -> httpx.Response:
    return httpx.get(url + path, headers=[("x-shadow", mark) for mark in marks])


@pytest.mark.parametrize("path", ["/lane", "/thread"])
def test_a_request_is_handled_in_its_own_lane(url: str, path: str) -> None:
    assert asked(url, path, signed()).text == f"shadow {RUN}"
    assert asked(url, path).text == "normal"


def test_a_streamed_body_keeps_the_lane_to_its_last_byte(url: str) -> None:
    assert asked(url, "/parts", signed()).text == f"shadow {RUN}\n" * PARTS
    assert asked(url, "/parts").text == "normal\n" * PARTS


def test_what_is_done_after_the_answer_is_done_in_the_lane_of_the_request(url: str) -> None:
    for marks in ([signed()], []):
        asked(url, "/later", *marks)
    until(lambda: len(LATER) == 2)
    assert list(LATER) == [f"shadow {RUN}", "normal"]


def test_lanes_of_many_requests_at_once_do_not_mix(url: str) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        marks = [signed(f"run-{number}")] if number % 2 else []
        found[number] = asked(url, "/parts", *marks).text

    threads = [threading.Thread(target=ask, args=[number]) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: (f"shadow run-{number}\n" if number % 2 else "normal\n") * PARTS for number in range(24)}


@pytest.mark.parametrize(
    ("marks", "status", "reason"),
    [
        (["1"], 400, "unsigned"),
        (["1;run=a"], 400, "unsigned"),
        ([""], 400, "empty"),
        ([signed(secret="a guess")], 400, "bad_signature"),
        ([signed(), signed("another")], 400, "conflict"),
        ([signed(ago_s=7 * 3600)], 410, "expired"),
    ],
)
def test_a_mark_that_cannot_be_trusted_is_refused(url: str, ear, marks: list[str], status: int, reason: str) -> None:
    answer = asked(url, "/lane", *marks)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert ear.told == [f"shadow in refused {reason}"]


def test_an_answer_to_a_refused_request_says_the_cure_and_never_what_came(app, serve, made) -> None:
    kind, make = app
    url = serve(kind, make(made({"shadow": False})))
    answer = asked(url, "/lane", mark := signed())
    assert answer.status_code == 403
    assert "propagate: {shadow: on}" in answer.json()["error"]
    assert mark.rpartition("=")[2] not in answer.text
    assert asked(url, "/lane").text == "normal"


def test_at_the_edge_a_foreign_mark_is_gone_before_the_app_sees_it(app, serve, made) -> None:
    kind, make = app
    url = serve(kind, make(made({"edge": True})))
    for foreign in ("1", "1;run=a", "true", ""):
        assert asked(url, "/lane", foreign).text == "normal"
        assert asked(url, "/headers", foreign).text == ""
    assert asked(url, "/lane", signed()).text == f"shadow {RUN}"
    assert asked(url, "/headers", signed()).text


@pytest.mark.parametrize("marks", [[], [signed()]])
def test_a_websocket_keeps_its_lane_for_every_message(serve, propagator, marks: list[str]) -> None:
    url = serve("asgi", APPS["starlette"][1](propagator)).replace("http:", "ws:")
    with connect(f"{url}/socket", additional_headers=[("X-Shadow", mark) for mark in marks]) as socket:
        for _ in range(PARTS):
            socket.send("which lane?")
            assert socket.recv() == (f"shadow {RUN}" if marks else "normal")


def test_a_websocket_with_a_mark_that_cannot_be_trusted_is_refused_before_the_handshake(serve, propagator, ear) -> None:
    url = serve("asgi", APPS["starlette"][1](propagator)).replace("http:", "ws:")
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{url}/socket", additional_headers={"X-Shadow": "1"})
    assert ear.told == ["shadow in refused unsigned"]


def answered(app, *pairs: tuple[bytes, bytes]) -> list[dict]:
    """Ask an ASGI app as a server would, in the context that we are in."""
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    with pytest.raises(StopIteration):
        app({"type": "http", "headers": list(pairs)}, receive, send).send(None)
    return sent


def test_an_unmarked_request_is_normal_whatever_the_server_runs_in(propagator) -> None:
    seen = []

    async def inner(scope, receive, send) -> None:
        seen.append(ss.current())

    def inner_wsgi(environ, start_response):
        seen.append(ss.current())
        return []

    with ss.entered(ss.Mark(run="somebody-elses")):
        answered(asgi.LaneMiddleware(inner, propagator))
        list(wsgi.LaneMiddleware(inner_wsgi, propagator)({}, lambda *_: None))
    assert seen == [None, None]


def test_what_is_no_request_goes_through_untouched(propagator) -> None:
    seen = []

    async def inner(scope, receive, send) -> None:
        seen.append(scope["type"])

    with pytest.raises(StopIteration):
        asgi.LaneMiddleware(inner, propagator)({"type": "lifespan"}, None, None).send(None)
    assert seen == ["lifespan"]


def test_an_error_of_the_app_is_the_apps(propagator) -> None:
    def broken(environ, start_response):
        raise LookupError("the app's")

    environ = {"HTTP_X_SHADOW": signed()}
    with pytest.raises(LookupError, match="the app's"):
        list(wsgi.LaneMiddleware(broken, propagator)(environ, lambda *_: None))
    assert ss.current() is None


def test_the_body_of_a_refusal_is_json(propagator) -> None:
    sent = answered(asgi.LaneMiddleware(None, propagator), (b"x-shadow", b"1"))
    assert json.loads(sent[1]["body"])["reason"] == "unsigned"
    lengths = dict(sent[0]["headers"])
    assert int(lengths[b"content-length"]) == len(sent[1]["body"])
