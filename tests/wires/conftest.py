"""What the tests of the wires share: one service, and servers until the test ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.signals import Ear, maker
from tests.wires.serving import asgi, wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shadowstream.propagate import Propagator

    Serve = Callable[..., str]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def made(tmp_path: Path, ear: Ear) -> Callable[..., Propagator]:
    return maker(tmp_path, ear, allow=["127.0.0.1"])


@pytest.fixture
def propagator(made: Callable[..., Propagator]) -> Propagator:
    return made()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve apps until the test ends; the kind is ``asgi`` or ``wsgi``."""
    with ExitStack() as stack:
        yield lambda kind, app: stack.enter_context({"asgi": asgi, "wsgi": wsgi}[kind](app))
