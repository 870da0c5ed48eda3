"""The small app's addresses and views for Django, which wants them in a module of their own."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.wires.apps import LATER, here, parts, parts_later


async def lane(request: Any) -> HttpResponse:
    return HttpResponse(here())


def thread(request: Any) -> HttpResponse:
    return HttpResponse(here())


def streamed(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts_later() if hasattr(request, "scope") else parts())


class Noting(HttpResponse):
    """Django calls ``close`` once the answer is out."""

    def close(self) -> None:
        super().close()
        LATER.append(here())


def later(request: Any) -> HttpResponse:
    return Noting("")


def headers(request: Any) -> HttpResponse:
    return HttpResponse(request.headers.get("x-shadow", ""))


urlpatterns = [
    *[path("lane", lane), path("thread", thread), path("parts", streamed), path("later", later)],
    path("headers", headers),
]
