"""What the tests of the signal share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.signals import Ear, maker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shadowstream.propagate import Propagator


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def made(tmp_path: Path, ear: Ear) -> Callable[..., Propagator]:
    return maker(tmp_path, ear)
