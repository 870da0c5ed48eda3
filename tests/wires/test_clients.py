"""Calls through real clients: they carry the lane of the work at hand, and no mark goes where it is not expected."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp
import httpx
import pytest
import requests
from flask import Flask, redirect, request

import shadowstream as ss
from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.headers import MarkReader
from shadowstream.propagate.clients import aiohttp as for_aiohttp
from shadowstream.propagate.clients import httpx as for_httpx
from shadowstream.propagate.clients import requests as for_requests
from shadowstream.propagate.clients import urllib3 as for_urllib3
from tests.signals import RUN

Pairs = list[tuple[str, str]]


def by_httpx(propagator, url: str, headers: Pairs, method: str) -> str:
    with for_httpx.carrying(httpx.Client(follow_redirects=True), propagator) as client:
        return client.request(method, url, headers=headers).text


def by_httpx_async(propagator, url: str, headers: Pairs, method: str) -> str:
    async def ask() -> str:
        async with for_httpx.carrying(httpx.AsyncClient(follow_redirects=True), propagator) as client:
            return (await client.request(method, url, headers=headers)).text

    return asyncio.run(ask())


def by_requests(propagator, url: str, headers: Pairs, method: str) -> str:
    with for_requests.carrying(requests.Session(), propagator) as session:
        return session.request(method, url, headers=dict(headers)).text


def by_aiohttp(propagator, url: str, headers: Pairs, method: str) -> str:
    async def ask() -> str:
        middlewares = [for_aiohttp.lane_middleware(propagator)]
        async with (
            aiohttp.ClientSession(middlewares=middlewares) as session,
            session.request(method, url, headers=headers) as answer,
        ):
            return await answer.text()

    return asyncio.run(ask())


def by_urllib3(propagator, url: str, headers: Pairs, method: str) -> str:
    with for_urllib3.LanePools(propagator) as pool:
        return pool.request(method, url, headers=dict(headers)).data.decode()


CLIENTS = {
    each.__name__.removeprefix("by_"): each for each in (by_httpx, by_httpx_async, by_requests, by_aiohttp, by_urllib3)
}


class Listener:
    """A host that writes down the mark headers that reach it, and sends callers elsewhere when asked."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.app = Flask("listener")
        for path in ("/", "/go"):
            self.app.add_url_rule(path, path, self.answer, methods=["GET", "POST"])

    def answer(self):
        self.heard.append(request.headers.getlist("X-Shadow"))
        to = request.args.get("to")
        return redirect(to, HTTPStatus.TEMPORARY_REDIRECT) if to else "here"


@pytest.fixture(params=CLIENTS)
def ask(request):
    def asked(propagator, url: str, headers: Pairs | None = None, method: str = "GET") -> str:
        return CLIENTS[request.param](propagator, url, headers or [], method)

    return asked


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def url(serve, listener: Listener) -> str:
    return serve("wsgi", listener.app) + "/"


def elsewhere(url: str) -> str:
    """Return the same server under another name, which stands for another host."""
    return url.replace("127.0.0.1", "localhost")


def marks(listener: Listener) -> list[ss.Mark | None]:
    reader = MarkReader(keys={"k1": b"not a secret"}, signed=True)
    assert all(len(values) <= 1 for values in listener.heard)
    import time

    readings = [
        reader.read([("x-shadow", value.encode()) for value in values], time.time()) for values in listener.heard
    ]
    assert not any(reading.reason for reading in readings)
    return [reading.mark for reading in readings]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_carries_the_lane_of_the_work_at_hand(ask, propagator, listener, url: str, method: str) -> None:
    assert ask(propagator, url, method=method) == "here"
    with ss.entered(ss.Mark(run=RUN, hop=2)):
        assert ask(propagator, url, method=method) == "here"
    assert ask(propagator, url, method=method) == "here"
    assert [None if mark is None else (mark.run, mark.hop) for mark in marks(listener)] == [None, (RUN, 3), None]


def test_a_shadow_call_to_a_host_that_is_not_listed_is_never_sent(ask, propagator, listener, url: str) -> None:
    with ss.entered(ss.Mark(run=RUN)), pytest.raises(NotAllowedError, match="localhost"):
        ask(propagator, elsewhere(url))
    assert listener.heard == []
    assert ask(propagator, elsewhere(url)) == "here"


def test_a_redirect_to_a_host_that_is_not_listed_is_stopped(ask, propagator, listener, url: str) -> None:
    with ss.entered(ss.Mark(run=RUN)), pytest.raises(NotAllowedError, match="localhost"):
        ask(propagator, f"{url}go?to={elsewhere(url)}")
    assert len(listener.heard) == 1


def test_a_redirect_within_the_listed_hosts_keeps_the_lane(ask, propagator, listener, url: str) -> None:
    with ss.entered(ss.Mark(run=RUN)):
        assert ask(propagator, f"{url}go?to={url}") == "here"
    assert [mark and mark.run for mark in marks(listener)] == [RUN, RUN]


def test_a_redirect_to_where_marks_do_not_go_takes_the_mark_off(ask, made, listener, url: str) -> None:
    propagator = made({"unmarked": ["localhost"]})
    with ss.entered(ss.Mark(run=RUN)):
        assert ask(propagator, f"{url}go?to={elsewhere(url)}") == "here"
    assert [mark and mark.run for mark in marks(listener)] == [RUN, None]


@pytest.mark.parametrize("spelling", ["x-shadow", "X-Shadow", "X-SHADOW"])
def test_a_mark_set_by_hand_is_refused_where_it_is_not_the_lane(ask, propagator, listener, url, spelling) -> None:
    with pytest.raises(MarkError, match="at hand is normal"):
        ask(propagator, url, [(spelling, "1;run=a")])
    with ss.entered(ss.Mark(run=RUN)), pytest.raises(MarkError, match=RUN):
        ask(propagator, url, [(spelling, "1;run=a")])
    assert listener.heard == []


def test_a_pool_manager_keeps_its_own_headers(propagator, listener, url: str) -> None:
    with for_urllib3.LanePools(propagator, headers={"user-agent": "tests"}) as pool:
        with ss.entered(ss.Mark(run=RUN)):
            assert pool.request("GET", url).data == b"here"
        assert dict(pool.headers) == {"user-agent": "tests"}
    assert [mark and mark.run for mark in marks(listener)] == [RUN]
