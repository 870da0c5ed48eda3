"""gRPC calls through real servers and channels, sync and asyncio, of all four kinds."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

import shadowstream as ss
from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.propagate.grpc import calling, calling_aio, serving, serving_aio
from shadowstream.propagate.grpc.metadata import place_of
from tests.signals import RUN, signed
from tests.wires.apps import here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
PARTS = 3
NORMAL, SHADOW = "normal", f"shadow {RUN}"

# What each kind of call answers: the lane that the server is in, for each part of the answer, and what it was sent.


def unary_unary(request: bytes, context: Any) -> bytes:
    return here().encode() + b"|" + request


def unary_stream(request: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(PARTS):
        time.sleep(0.01)
        yield here().encode() + b"|" + request


def stream_unary(requests: Iterator[bytes], context: Any) -> bytes:
    return here().encode() + b"|" + b",".join(requests)


def stream_stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield here().encode() + b"|" + request


async def unary_unary_aio(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(0.01)
    return here().encode() + b"|" + request


async def unary_stream_aio(request: bytes, context: Any):
    for _ in range(PARTS):
        await asyncio.sleep(0.01)
        yield here().encode() + b"|" + request


async def stream_unary_aio(requests: Any, context: Any) -> bytes:
    return here().encode() + b"|" + b",".join([request async for request in requests])


async def stream_stream_aio(requests: Any, context: Any):
    async for request in requests:
        yield here().encode() + b"|" + request


async def writing_aio(request: bytes, context: Any) -> None:
    """A stream that is written and not yielded, which is a coroutine."""
    for _ in range(PARTS):
        await context.write(here().encode() + b"|" + request)


SYNC = {"unary_unary": unary_unary, "unary_stream": unary_stream, "stream_unary": stream_unary}
SYNC["stream_stream"] = stream_stream
ASYNC = {"unary_unary": unary_unary_aio, "unary_stream": unary_stream_aio, "stream_unary": stream_unary_aio}
ASYNC["stream_stream"] = stream_stream_aio


def service(functions: dict[str, Any]) -> Any:
    handlers = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(function)
        for kind, function in functions.items()
        if kind in KINDS
    }
    if "writing" in functions:
        handlers["writing"] = grpc.unary_stream_rpc_method_handler(functions["writing"])
    return grpc.method_handlers_generic_handler("tests", handlers)


class Server:
    """A server in this process, sync or asyncio."""

    def __init__(self, kind: str, propagator: ss.Propagator) -> None:
        self._ready = threading.Event()
        self._ended: Callable[[], None]
        if kind == "sync":
            server = grpc.server(ThreadPoolExecutor(8), interceptors=[serving.LaneServerInterceptor(propagator)])
            server.add_generic_rpc_handlers([service(SYNC)])
            self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            self.stop = lambda: server.stop(None).wait()
        else:
            functions = {**ASYNC, "writing": writing_aio} if kind == "asyncio" else SYNC
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._serve, args=[functions, propagator])
            thread.start()
            assert self._ready.wait(10)
            self.stop = lambda: (self._loop.call_soon_threadsafe(self._end.set), thread.join())

    def _serve(self, functions: dict[str, Any], propagator: ss.Propagator) -> None:
        self._loop.run_until_complete(self._serving(functions, propagator))
        self._loop.close()

    async def _serving(self, functions: dict[str, Any], propagator: ss.Propagator) -> None:
        self._end = asyncio.Event()
        server = grpc.aio.server(ThreadPoolExecutor(8), interceptors=[serving_aio.LaneServerInterceptor(propagator)])
        server.add_generic_rpc_handlers([service(functions)])
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._ready.set()
        await self._end.wait()
        await server.stop(None)


@pytest.fixture(params=["sync", "asyncio", "asyncio with sync handlers"])
def target(request, propagator) -> Iterator[str]:
    server = Server(request.param, propagator)
    yield server.target
    server.stop()


def sent() -> Iterator[bytes]:
    for _ in range(PARTS):
        yield here().encode()


async def sent_aio():
    for _ in range(PARTS):
        yield here().encode()


def by_sync(propagator, target: str, kind: str, metadata: Any = None) -> list[str]:
    with grpc.insecure_channel(target) as plain:
        channel = plain if propagator is None else calling.carrying(plain, propagator, target)
        call = getattr(channel, "unary_stream" if kind == "writing" else kind)(f"/tests/{kind}")
        request: Any = sent() if kind.startswith("stream") else here().encode()
        answer: Any = call(request, metadata=metadata)
        return [part.decode() for part in ([answer] if kind.endswith("unary") else answer)]


def by_asyncio(propagator, target: str, kind: str, metadata: Any = None) -> list[str]:
    async def ask() -> list[str]:
        interceptors = [] if propagator is None else calling_aio.carrying(propagator, target)
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            call = getattr(channel, "unary_stream" if kind == "writing" else kind)(f"/tests/{kind}")
            request: Any = sent_aio() if kind.startswith("stream") else here().encode()
            answer: Any = call(request, metadata=metadata)
            parts = [await answer] if kind.endswith("unary") else [part async for part in answer]
            return [part.decode() for part in parts]

    return asyncio.run(ask())


CALLERS = {"sync": by_sync, "asyncio": by_asyncio}


@pytest.fixture(params=CALLERS)
def ask(request):
    return CALLERS[request.param]


def expected(kind: str, lane: str) -> list[str]:
    if kind == "stream_unary":
        return [f"{lane}|{','.join([lane] * PARTS)}"]
    return [f"{lane}|{lane}"] * (1 if kind == "unary_unary" else PARTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_request_stream_are_made_in_the_callers_lane(ask, propagator, target: str, kind: str) -> None:
    assert ask(propagator, target, kind) == expected(kind, NORMAL)
    with ss.entered(ss.Mark(run=RUN)):
        assert ask(propagator, target, kind) == expected(kind, SHADOW)
    assert ask(propagator, target, kind) == expected(kind, NORMAL)


def test_a_stream_that_is_written_keeps_the_lane_too(ask, propagator) -> None:
    server = Server("asyncio", propagator)
    try:
        with ss.entered(ss.Mark(run=RUN)):
            assert ask(propagator, server.target, "writing") == expected("unary_stream", SHADOW)
        assert ask(propagator, server.target, "writing") == expected("unary_stream", NORMAL)
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_both_lanes_at_once_do_not_mix(propagator, target: str, kind: str) -> None:
    found: dict[int, list[str]] = {}

    def go_on(number: int) -> None:
        with ss.entered(ss.Mark(run=f"run-{number}") if number % 2 else None):
            found[number] = by_sync(propagator, target, kind)

    threads = [threading.Thread(target=go_on, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: expected(kind, f"shadow run-{number}" if number % 2 else NORMAL) for number in range(12)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("marks", "code"),
    [
        (["1"], grpc.StatusCode.INVALID_ARGUMENT),
        ([signed(), signed("another")], grpc.StatusCode.INVALID_ARGUMENT),
        ([signed(secret="a guess")], grpc.StatusCode.INVALID_ARGUMENT),
        ([signed(ago_s=7 * 3600)], grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_a_call_whose_mark_cannot_be_trusted_is_refused(target: str, kind: str, marks, code) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        by_sync(None, target, kind, [("x-shadow", mark) for mark in marks])
    assert refused.value.code() is code
    assert "shadow work refused" in refused.value.details()
    assert marks[0] not in refused.value.details() or marks[0] == "1"


def test_a_call_to_a_service_that_takes_no_part_is_refused(made) -> None:
    server = Server("sync", made({"shadow": False}))
    try:
        with pytest.raises(grpc.RpcError) as refused:
            by_sync(None, server.target, "unary_unary", [("x-shadow", signed())])
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert by_sync(None, server.target, "unary_unary") == [f"{NORMAL}|{NORMAL}"]
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shadow_call_to_a_target_that_is_not_listed_is_never_sent(ask, made, target: str, kind: str, ear) -> None:
    propagator = made({"allow": ["elsewhere"]})
    with ss.entered(ss.Mark(run=RUN)), pytest.raises(NotAllowedError, match=r"127\.0\.0\.1"):
        ask(propagator, target, kind)
    assert ear.told == ["shadow out refused not_listed"]
    assert ask(propagator, target, kind) == expected(kind, NORMAL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_set_by_hand_is_refused_where_it_is_not_the_lane(ask, propagator, target: str, kind: str) -> None:
    with pytest.raises(MarkError, match="at hand is normal"):
        ask(propagator, target, kind, [("x-shadow", signed())])


def test_other_metadata_stay_as_they_are(ask, propagator) -> None:
    seen: list[Any] = []

    def noting(request: bytes, context: Any) -> bytes:
        seen.append([pair for pair in context.invocation_metadata() if pair[0].startswith("x-")])
        return b""

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([service({"unary_unary": noting})])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with ss.entered(ss.Mark(run=RUN)):
        ask(propagator, target, "unary_unary", [("x-first", "1"), ("x-first", "2")])
    server.stop(None).wait()
    assert [(name, value) for name, value in seen[0][:2]] == [("x-first", "1"), ("x-first", "2")]
    assert [name for name, _ in seen[0][2:]] == ["x-shadow"]


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("ss-business:50051", ("ss-business", 50051)),
        ("ss-business", ("ss-business", None)),
        ("dns:///ss-business:50051", ("ss-business", 50051)),
        ("dns://8.8.8.8/ss-business:50051", ("ss-business", 50051)),
        ("dns:ss-business:50051", ("ss-business", 50051)),
        ("ipv4:10.0.0.7:80", ("10.0.0.7", 80)),
        ("ipv6:[::1]:80", ("::1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("unix:/run/service.sock", ("unix", None)),
        ("dns:80", ("dns", 80)),
    ],
)
def test_a_target_names_its_host(target: str, place: tuple[str, int | None]) -> None:
    assert place_of(target) == place
