"""The same small app in each framework: it says which lane it is in, at once, part by part, from a thread, and after.

Each answers

* ``/lane`` with the lane, from an ordinary handler (async where the framework is);
* ``/thread`` with the lane, from a sync handler that an async framework puts on a thread;
* ``/parts`` with the lane three times, each part made when it is sent;
* ``/later`` and tells ``LATER`` the lane of what is done after the answer, where the framework has that;
* ``/headers`` with the mark header as the app sees it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import shadowstream as ss
from shadowstream.propagate.servers import asgi, wsgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shadowstream.propagate import Propagator

LATER: deque[str] = deque()
PARTS = 3


def here() -> str:
    """Say the lane of the work at hand, with its run."""
    mark = ss.current()
    return "normal" if mark is None else f"shadow {mark.run}"


def parts() -> Iterator[str]:
    for _ in range(PARTS):
        time.sleep(0.01)
        yield here() + "\n"


async def parts_later() -> AsyncIterator[str]:
    import asyncio

    for _ in range(PARTS):
        await asyncio.sleep(0.01)
        yield here() + "\n"


def starlette(propagator: Propagator) -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def lane(request: Any) -> Any:
        return PlainTextResponse(here())

    def thread(request: Any) -> Any:
        return PlainTextResponse(here())

    async def streamed(request: Any) -> Any:
        return StreamingResponse(parts_later())

    async def later(request: Any) -> Any:
        return PlainTextResponse("", background=BackgroundTask(lambda: LATER.append(here())))

    async def headers(request: Any) -> Any:
        return PlainTextResponse(",".join(request.headers.getlist("x-shadow")))

    async def socket(websocket: Any) -> None:
        await websocket.accept()
        for _ in range(PARTS):
            await websocket.receive_text()
            await websocket.send_text(here())
        await websocket.close()

    routes = [
        *[Route("/lane", lane), Route("/thread", thread), Route("/parts", streamed), Route("/later", later)],
        *[Route("/headers", headers), WebSocketRoute("/socket", socket)],
    ]
    app = Starlette(routes=routes)
    app.add_middleware(asgi.LaneMiddleware, propagator=propagator)
    return app


def fastapi(propagator: Propagator) -> Any:
    from fastapi import BackgroundTasks, FastAPI, Request
    from fastapi.responses import PlainTextResponse, StreamingResponse

    app = FastAPI()

    async def lane() -> Any:
        return PlainTextResponse(here())

    def thread() -> Any:
        return PlainTextResponse(here())

    async def streamed() -> Any:
        # A sync generator: Starlette asks a thread for each part.
        return StreamingResponse(parts())

    async def later(tasks: Any) -> Any:
        tasks.add_task(lambda: LATER.append(here()))
        return PlainTextResponse("")

    async def headers(request: Any) -> Any:
        return PlainTextResponse(",".join(request.headers.getlist("x-shadow")))

    # Said here, where the names are known: annotations are texts, and FastAPI looks them up in the module.
    later.__annotations__["tasks"] = BackgroundTasks
    headers.__annotations__["request"] = Request
    for each, path in ((lane, "lane"), (thread, "thread"), (streamed, "parts"), (later, "later"), (headers, "headers")):
        app.get(f"/{path}", response_model=None)(each)
    app.add_middleware(asgi.LaneMiddleware, propagator=propagator)
    return app


def django_asgi(propagator: Propagator) -> Any:
    from django.core.handlers.asgi import ASGIHandler

    _django()
    return asgi.LaneMiddleware(ASGIHandler(), propagator)


def django_wsgi(propagator: Propagator) -> Any:
    from django.core.handlers.wsgi import WSGIHandler

    _django()
    return wsgi.LaneMiddleware(WSGIHandler(), propagator)


def _django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="tests.wires.django_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="none", MIDDLEWARE=[], USE_TZ=True
        )
        django.setup()


def flask(propagator: Propagator) -> Any:
    from flask import Flask, Response, request

    app = Flask(__name__)
    app.add_url_rule("/lane", "lane", here)
    app.add_url_rule("/thread", "thread", here)
    app.add_url_rule("/parts", "parts", lambda: Response(parts()))
    app.add_url_rule("/headers", "headers", lambda: request.headers.get("x-shadow", ""))

    def later() -> Any:
        response = Response("")
        response.call_on_close(lambda: LATER.append(here()))
        return response

    app.add_url_rule("/later", "later", later)
    app.wsgi_app = wsgi.LaneMiddleware(app.wsgi_app, propagator)
    return app


APPS = {
    "starlette": ("asgi", starlette),
    "fastapi": ("asgi", fastapi),
    "django-asgi": ("asgi", django_asgi),
    "django-wsgi": ("wsgi", django_wsgi),
    "flask": ("wsgi", flask),
}
