"""A glimpse of chaos, so that what `make chaos` stands on is tried with every `make test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.run import Size, run

if TYPE_CHECKING:
    from pathlib import Path

# Above the minute that it takes on two free cores.
pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(240)]

GLIMPSE = Size(faults=4, normal=4000, shadow=1500, members=2, normal_per_s=400.0)


def test_a_broker_and_a_worker_that_fail_lose_no_message(tmp_path: Path) -> None:
    verdict = run(seed=3, size=GLIMPSE, folder=tmp_path)

    assert verdict.faults == 4
    assert (verdict.normal_lost, verdict.shadow_lost) == (0, 0)
    assert (verdict.normal_handled + verdict.normal_failed, verdict.shadow_ended) == (4000, 1500)
