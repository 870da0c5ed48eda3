"""The engine as it is shipped, in histories that nobody thought of; each law of the design is an invariant."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.simulation.play import PROTOCOLS, History

HISTORIES = 500
STEPS = 30


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_laws_hold_in_each_history(protocol: str) -> None:
    machine = type(f"History_{protocol}", (History,), {"protocol": protocol})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            derandomize=True,
            # No shrinking and no explaining: they take minutes, and a history of thirty steps can be read.
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
