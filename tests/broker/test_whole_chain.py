"""One request through everything: HTTP, gRPC, Kafka, Faust, Celery, Kafka, HTTP; real servers, both lanes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import shadowstream as ss
from shadowstream.propagate.clients import httpx as for_httpx
from shadowstream.propagate.grpc import calling, serving
from shadowstream.propagate.servers import asgi, wsgi
from tests.broker.faust_service import FaustService
from tests.broker.rig import KEY_VARIABLE, SECRET, SIGNED, eventually
from tests.broker.service import surroundings
from tests.signals import signed
from tests.wires.serving import asgi as served_asgi
from tests.wires.serving import wsgi as served_wsgi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"
STOPS = ["http", "grpc", "faust", "celery", "worker", "http again"]

AGENT = """
from tests.broker.chain_tasks import hand_on, stop

@app.agent(raw("{topic}"))
async def first(stream):
    async for value in stream:
        hand_on.delay(stop(value.decode(), "faust"))
"""


class Chain:
    """Everything but Faust and Celery, in this process."""

    def __init__(self, rig: Rig, settings: ss.Settings, first: str, second: str) -> None:
        self.tasks = importlib.import_module("tests.broker.chain_tasks")
        self.settings, self.first, self.second = settings, first, second
        self.propagator = ss.Propagator(settings)
        self.producer = ss.Producer(settings)
        self.done: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.worker = rig.worker(settings)
        self.client = for_httpx.carrying(httpx.Client(), self.propagator)

    def last(self) -> Any:
        """Return the end of the chain, a WSGI app."""
        app = Flask(__name__)

        @app.post("/")
        def ended() -> str:
            story = json.loads(self.tasks.stop(request.get_data(as_text=True), "http again"))
            with self._lock:
                self.done.append(story)
            return ""

        return wsgi.LaneMiddleware(app, self.propagator)

    def middle(self) -> grpc.Server:
        """Return the gRPC server, which produces."""

        def produced(order: bytes, _context: Any) -> bytes:
            self.producer.produce(self.first, self.tasks.stop(order.decode(), "grpc"))
            assert self.producer.flush(10) == 0
            return b""

        handlers = {"produce": grpc.unary_unary_rpc_method_handler(produced)}
        server = grpc.server(ThreadPoolExecutor(8), interceptors=[serving.LaneServerInterceptor(self.propagator)])
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("chain", handlers)])
        return server

    def edge(self, call: Any) -> Any:
        """Return the begin of the chain, an ASGI app."""

        def begun(asked: Any) -> PlainTextResponse:
            order = json.dumps({"order": asked.path_params["order"], "stops": []})
            call(self.tasks.stop(order, "http").encode())
            return PlainTextResponse("")

        return asgi.LaneMiddleware(Starlette(routes=[Route("/{order}", begun)]), self.propagator)


@pytest.fixture
def chain(rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    first, second = rig.topics("first", "second")
    rig.begin(second)
    propagate = {"shadow": True, "edge": True, "allow": ["127.0.0.1", "localhost"]}
    settings = rig.settings({first: {}, second: {"concurrency": 4}}, mark=SIGNED, propagate=propagate)
    place = {
        KEY_VARIABLE: SECRET,
        "TESTS_REDIS_URL": redis_url,
        "TESTS_TOPIC": second,
        "TESTS_SETTINGS": str(rig.folder / "shadowstream.yaml"),
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    made = Chain(rig, settings, first, second)
    yield made
    made.client.close()
    made.tasks.app.close()
    del sys.modules["tests.broker.chain_tasks"]


def test_a_marked_request_keeps_lane_run_and_signature_through_every_hop_beside_normal_ones(
    chain: Chain, rig: Rig
) -> None:
    mark = signed(RUN, secret=SECRET)
    signature = mark.rpartition("sig=")[2]
    allow = {"shadow": True, "edge": True, "allow": ["127.0.0.1", "localhost"]}
    sections = {"mark": SIGNED, "propagate": allow, "kafka": {"group.id": f"{rig.group}-faust"}}
    faust = FaustService(rig, AGENT.format(topic=chain.first), {chain.first: {}, chain.second: {}}, **sections)
    command = [sys.executable, "-m", "celery", "-A", "tests.broker.chain_tasks:app", "worker", "--concurrency", "2"]
    grpc_server = chain.middle()
    target = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    with (
        (rig.folder / "celery.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=surroundings() | dict(os.environ)) as celery,
        served_wsgi(chain.last()) as end,
        calling.carrying(grpc.insecure_channel(target), chain.propagator, target) as channel,
        served_asgi(chain.edge(channel.unary_unary("/chain/produce"))) as begin,
        faust,
    ):

        @chain.worker.handles(chain.second)
        def handed_on(message: ss.Message) -> None:
            order = chain.tasks.stop((message.value() or b"").decode(), "worker")
            chain.client.post(end, content=order).raise_for_status()

        try:
            with chain.worker, ThreadPoolExecutor(8) as callers:
                asked = [
                    callers.submit(
                        httpx.get, f"{begin}/{number}", headers={"x-shadow": mark} if number % 3 == 0 else {}
                    )
                    for number in range(60)
                ]
                assert [each.result().status_code for each in asked] == [200] * 60
                # From outside, and nobody's: a real order.
                assert httpx.get(f"{begin}/60", headers={"x-shadow": "1"}).status_code == 200
                eventually(lambda: len(chain.done) == 61, "each order has come to the end of the chain", 90)
        finally:
            celery.terminate()
            grpc_server.stop(None).wait()
    print((rig.folder / "celery.log").read_text())  # noqa: T201 - shown when the test fails
    stories = {int(story["order"]): story["stops"] for story in chain.done}
    assert sorted(stories) == list(range(61))
    for number, stops in stories.items():
        assert [where for where, _ in stops] == STOPS
        if number % 3 or number == 60:
            assert [lane for _, lane in stops] == [None] * len(STOPS)
        else:
            assert {(run, sign) for _, (run, sign, _) in stops} == {(RUN, signature)}
            hops = [hop for _, (_, _, hop) in stops]
            assert hops == list(range(1, len(STOPS) + 1))
