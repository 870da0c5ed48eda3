"""Law 1 at the gates: what normal's calls are told is the same to the byte, whatever shadow does beside them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

import shadowstream as ss
from shadowstream.config.model import BreakerRule, KeysRule, MarkSettings, RateRule, Settings
from shadowstream.gate import Guarded
from shadowstream.lane import Lane
from tests.lanes import lane_of

if TYPE_CHECKING:
    from shadowstream.config.model import LaneSettings

COMMANDS = ("voucher.claim", "voucher.use")
RULES = {
    "default_rate": RateRule(soft_per_s=20.0, hard_per_s=50.0, burst=5, warm_up_s=0.5),
    "breakers": {"voucher.claim": BreakerRule(window=4, min_calls=2, open_for_s=0.2, half_open=1, max_concurrent=2)},
    "key_limits": {"voucher.use": KeysRule(("user",), 5.0, 2, max_keys=2)},
}
OTHERS = {"default_rate": RateRule(hard_per_s=0.0), "breakers": {"voucher.use": BreakerRule(max_concurrent=0)}}
Step = tuple[Lane, str, int, bool, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(Lane),
        st.sampled_from(COMMANDS),
        st.integers(0, 3),
        st.booleans(),
        st.floats(0.0, 0.3),
    ),
    max_size=80,
)


def told(run: list[Step], lanes: tuple[Lane, ...], *, changes: bool) -> list[str]:
    """Return all that normal's calls were told, in a run of which only some lanes' calls are made."""
    clock = [100.0]
    shadow: LaneSettings = lane_of(Lane.SHADOW, **RULES)
    guarded = Guarded(Settings("s", MarkSettings(), lane_of(Lane.NORMAL, **RULES), shadow), clock=lambda: clock[0])
    told: list[str] = []
    for number, (lane, command, user, fails, later_s) in enumerate(run):
        clock[0] += later_s
        if lane not in lanes:
            continue
        with ss.entered(ss.Mark(run="r1") if lane is Lane.SHADOW else None):
            asked = guarded.asked(command, user=user)
            ticket = asked.__enter__()
            if lane is Lane.NORMAL:
                told.append(repr(asdict(ticket)))
            asked.__exit__(None, ValueError() if fails else None, None)
        if changes and lane is Lane.SHADOW and (gates := guarded.gates(lane)) is not None:
            gates.adopt(lane_of(**(OTHERS if number % 2 else RULES)), clock[0])
    guarded.close()
    return told


@settings(max_examples=200, deadline=None)
@given(steps)
def test_normal_s_decisions_are_the_same_to_the_byte_with_and_without_any_shadow_load(run: list[Step]) -> None:
    alone = told(run, (Lane.NORMAL,), changes=False)
    assert told(run, tuple(Lane), changes=False) == alone
    assert told(run, tuple(Lane), changes=True) == alone


def test_the_trace_shows_what_a_call_of_the_same_lane_changes() -> None:
    run: list[Step] = [(Lane.NORMAL, "voucher.use", 0, False, 0.0)] * 3
    assert told(run, (Lane.NORMAL,), changes=False)[2] != told(run[:1], (Lane.NORMAL,), changes=False)[0]
