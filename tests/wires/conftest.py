"""What the tests of the wires share: one service, and servers until the test ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from shadowstream.propagate import Propagator
from tests.signals import Ear, settings_of
from tests.wires.serving import asgi, wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Serve = Callable[..., str]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def made(tmp_path: Path, ear: Ear) -> Callable[..., Propagator]:
    def make(propagate: dict[str, Any] | None = None, **sections: Any) -> Propagator:
        rules = {"shadow": True, "allow": ["127.0.0.1"], **(propagate or {})}
        return Propagator(settings_of(tmp_path, propagate=rules, **sections), [ear])

    return make


@pytest.fixture
def propagator(made: Callable[..., Propagator]) -> Propagator:
    return made()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve apps until the test ends; the kind is ``asgi`` or ``wsgi``."""
    with ExitStack() as stack:
        yield lambda kind, app: stack.enter_context({"asgi": asgi, "wsgi": wsgi}[kind](app))
