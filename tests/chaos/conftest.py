"""Makes sure of the images outside any test: a first run builds them, which no timeout of a test should count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from containers.host import ContainerGroundError, say
from containers.images import ensure_kafka_image, ensure_toxiproxy_image

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = [item for item in session.items if item.path.is_relative_to(HERE)]
    if session.config.option.collectonly or not ours:
        return
    try:
        ensure_kafka_image()
        ensure_toxiproxy_image()
    except ContainerGroundError as failure:
        # The other tests still run; ours fails, with this reason.
        say(str(failure))
