"""The engine as it is shipped, in histories that nobody thought of; each law of the design is an invariant."""

from __future__ import annotations

import pytest

from shadowstream.lane import Lane
from tests.unit.simulation.play import PROTOCOLS, History, play

# Against a history that never ends, on a machine that does much else.
pytestmark = pytest.mark.timeout(900)

HISTORIES = 340


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_laws_hold_in_each_history(protocol: str) -> None:
    play(protocol, HISTORIES)


def test_a_copy_of_where_a_group_begins_that_lay_with_a_frozen_broker_overtakes_no_last_commit() -> None:
    """A history that was found by chance: said twice, answered once, and the other copy came after the revoke."""
    history = History()
    history.begin(limit="none", ways=("partition", 2), on_limit="wait", seed=24872, members=[], style="plain")
    history.rebalance_while_a_handler_hangs(attempts=1, lane=Lane.NORMAL, partition=0)
    history.start(lane=Lane.SHADOW)
    history.leave_a_gap(offsets=2, partition=0)
    history.trouble(kind="cut")
    history.start(lane=Lane.SHADOW)
    history.trouble(kind="beats")
    history.start(lane=Lane.NORMAL)
    history.trouble(kind="stuck")
    history.start(lane=Lane.SHADOW)
    history.time_passes(seconds=8.0)
    history.teardown()
