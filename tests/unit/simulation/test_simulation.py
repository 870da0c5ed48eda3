"""The engine as it is shipped, in histories that nobody thought of; each law of the design is an invariant."""

from __future__ import annotations

import pytest

from tests.unit.simulation.play import PROTOCOLS, play

# Against a history that never ends, on a machine that does much else.
pytestmark = pytest.mark.timeout(900)

HISTORIES = 340


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_laws_hold_in_each_history(protocol: str) -> None:
    play(protocol, HISTORIES)
