"""What the tests of the signal share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shadowstream.propagate import Propagator
from tests.signals import Ear, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def made(tmp_path: Path, ear: Ear) -> Callable[..., Propagator]:
    def make(propagate: dict[str, Any] | None = None, **sections: Any) -> Propagator:
        rules = {"shadow": True, **(propagate or {})}
        return Propagator(settings_of(tmp_path, propagate=rules, **sections), [ear])

    return make
