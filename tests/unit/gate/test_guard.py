"""Shadow is cut when normal suffers: how that is told, how the level follows, and what it leaves of shadow's calls."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shadowstream as ss
from shadowstream.config.model import BreakerRule, GuardSettings, MarkSettings, RateRule, Settings
from shadowstream.errors import SetupError
from shadowstream.events import Carried, Guarding, Lagging, Listeners, Outcome, Rebalanced
from shadowstream.gate import Gates, Guarded
from shadowstream.gate.guard import Board, Guard, Level, Pulse, Share, Vitals
from shadowstream.gate.guard.level import CUT_AT, FRESH_S, LEAST, SETTLE_S, START, TRIPS, TRIPS_WITHIN_S
from shadowstream.lane import Lane
from tests.lanes import lane_of
from tests.unit.gate.conftest import Held
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.gate.conftest import Ear

SLO = GuardSettings(p99_s=0.1)
TICK_S = 0.5


@dataclass
class Time:
    """Seconds that pass when somebody says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "vitals")


# Normal's vitals


def carried(seconds: tuple[float, ...], failed: int = 0, command: str = "claim") -> Carried:
    outcomes = {Outcome.FAILED: failed, Outcome.HANDLED: len(seconds) - failed}
    return Carried(Lane.NORMAL, "t", 0, command, outcomes, 0, {}, seconds=seconds)


def test_the_p99_is_that_of_the_last_second_and_the_errors_are_a_share(board: Board, time: Time) -> None:
    pulse = Pulse(board, time)
    pulse.on(carried((9.0,) * 100))
    time.now += 1.5
    pulse.on(carried((0.001,) * 985 + (0.05,) * 15, failed=10))
    vitals = pulse.vitals()
    assert (vitals.at, vitals.calls, vitals.p99_s) == (time.now, 1000, 0.05)
    assert vitals.error_rate == pytest.approx(0.01)


def test_with_few_calls_the_window_is_longer_but_no_call_counts_for_ever(board: Board, time: Time) -> None:
    pulse = Pulse(board, time)
    for _ in range(10):
        pulse.on(carried((0.02,)))
        time.now += 1.0
    assert 4 <= pulse.vitals().calls <= 6
    time.now += 10
    assert (pulse.vitals().calls, pulse.vitals().p99_s) == (0, 0.0)


def test_each_command_s_rate_is_told(board: Board, time: Time) -> None:
    pulse = Pulse(board, time)
    for _ in range(20):
        pulse.on(carried((0.001,) * 10))
        pulse.on(carried((0.001,), command="use"))
        time.now += 0.1
    assert pulse.vitals().rates == pytest.approx({"claim": 100.0, "use": 10.0}, rel=0.11)


def test_a_lag_that_grows_is_told_by_the_second_and_a_partition_that_goes_is_no_progress(
    board: Board, time: Time
) -> None:
    pulse = Pulse(board, time)
    for step in range(12):
        for partition in range(2):
            pulse.on(Lagging(Lane.NORMAL, "t", partition, 50 * step))
        growth = pulse.vitals().lag_growth_per_s
        time.now += 0.5
    assert growth == pytest.approx(200.0)
    pulse.on(Rebalanced(Lane.NORMAL, "revoked", (("t", 0),)))
    assert pulse.vitals().lag_growth_per_s == 0.0


def test_a_thread_writes_them_and_takes_them_away_at_the_end(board: Board) -> None:
    with Pulse(board):
        until(lambda: board.read() is not None)
    assert board.read() is None


def test_what_cannot_be_written_stops_nobody_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writes: list[int] = []
    board = Board(tmp_path / "no" / "vitals")
    write = board.write

    def counted(vitals: Vitals) -> None:
        writes.append(1)
        write(vitals)

    board.write = counted  # type: ignore[method-assign]
    with Pulse(board):
        until(lambda: len(writes) == 3)
    assert caplog.text.count("vitals_not_written") == 1


def test_vitals_are_read_whole_however_often_they_are_written(board: Board) -> None:
    ended, found = threading.Event(), set[float]()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            board.write(Vitals(float(number), rates={f"command-{each}": float(number) for each in range(200)}))

    thread = threading.Thread(target=write)
    thread.start()
    until(lambda: board.read() is not None)
    for _ in range(1000):
        vitals = board.read()
        assert vitals is not None
        assert set(vitals.rates.values()) == {vitals.at}
        found.add(vitals.at)
    ended.set()
    thread.join()
    assert len(found) > 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"at": 1, "unknown": 2}', "\x00"])
def test_a_file_that_is_no_vitals_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "vitals").write_text(text)
    assert Board(tmp_path / "vitals").read() is None


def test_the_folder_is_the_user_s_own_or_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    Board.of("voucher", "7").write(Vitals(1.0))
    assert Board.of("voucher", "7").read() == Vitals(1.0)
    assert Board.of("voucher", "8").read() is None
    (home,) = tmp_path.iterdir()
    left = home / "voucher.1.vitals"
    left.touch()
    os.utime(left, (0, 0))
    Board.of("voucher", "7")
    assert not left.exists(), "what a killed process left behind"
    left.touch()
    os.utime(left, (0, 0))
    home.chmod(0o777)
    with pytest.raises(SetupError, match="could tell shadow that normal is well"):
        Board.of("voucher", "7")
    assert left.exists(), "nothing is removed where somebody else may be at home"


def test_where_no_folder_can_be_made_it_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(SetupError, match="set TMPDIR to another place"):
        Board.of("voucher", "7")


# The level


@dataclass
class Normal:
    """A normal lane that is as it is told, and the level that follows it."""

    objectives: GuardSettings = SLO
    now: float = 1000.0
    level: Level = field(init=False)

    def __post_init__(self) -> None:
        self.level = Level(self.objectives)

    def tick(self, ticks: int = 1, **vitals: float) -> float:
        for _ in range(ticks):
            self.now += TICK_S
            self.level.tick(Vitals(self.now, 100, **vitals), self.now)
        return self.level.value

    def blind(self, ticks: int = 1, old_s: float | None = None) -> float:
        for _ in range(ticks):
            self.now += TICK_S
            self.level.tick(None if old_s is None else Vitals(self.now - old_s, 100), self.now)
        return self.level.value


def test_it_begins_low_and_opens_while_normal_is_calm() -> None:
    normal = Normal()
    assert normal.level.value == START
    values = [normal.tick(p99_s=0.01) for _ in range(30)]
    assert values == sorted(values)
    assert values[-1] == 1.0
    assert values[5] < 0.5, "slowly"


def test_half_of_the_objective_cuts_by_half_within_a_tick() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.tick(p99_s=0.1 * CUT_AT) == 0.5
    assert normal.level.why == "p99"


def test_one_slow_second_is_cut_once() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.tick(int(SETTLE_S / TICK_S) + 1, p99_s=0.06) == 0.5
    assert normal.tick(p99_s=0.06) == 0.25, "and once more when it stays slow"


def test_a_broken_objective_cuts_everything_and_what_comes_back_comes_slowly() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.tick(p99_s=0.1) == 0.0
    normal.tick(30, p99_s=0.2)
    assert not normal.level.latched, "what goes on without shadow is not shadow's"
    assert 0.0 < normal.tick(p99_s=0.01) <= 0.1


def test_it_closes_for_good_after_repeated_trips_until_somebody_releases_it() -> None:
    normal = Normal()
    for trip in range(TRIPS):
        assert normal.level.latched is False
        normal.tick(10, p99_s=0.01)
        assert normal.tick(p99_s=0.2) == 0.0, trip
    assert normal.tick(1000, p99_s=0.01) == 0.0
    assert normal.level.latched
    normal.level.release()
    assert normal.tick(p99_s=0.01) > 0.0


def test_trips_far_apart_do_not_close_it_for_good() -> None:
    normal = Normal()
    for _ in range(2 * TRIPS):
        normal.tick(p99_s=0.2)
        normal.tick(int(TRIPS_WITHIN_S / TICK_S), p99_s=0.01)
    assert not normal.level.latched


@pytest.mark.parametrize("old_s", [None, FRESH_S + 0.1, -FRESH_S - 0.1])
def test_who_is_blind_is_cut_until_nothing_is_left(old_s: float | None) -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.blind(old_s=old_s) == 0.5
    assert normal.blind(10, old_s=old_s) == 0.0
    assert (normal.level.why, normal.level.latched) == ("blind", False)
    assert normal.tick(p99_s=0.01) > 0.0, "sight comes back, and shadow with it"


def test_idle_is_no_reason_to_cut() -> None:
    normal = Normal()
    for _ in range(40):
        normal.now += TICK_S
        normal.level.tick(Vitals(normal.now), normal.now)
    assert normal.level.value == 1.0


@pytest.mark.parametrize(
    ("objectives", "vitals", "why"),
    [
        (GuardSettings(error_rate=0.02), {"error_rate": 0.01}, "error_rate"),
        (GuardSettings(lag_growth_per_s=100.0), {"lag_growth_per_s": 50.0}, "lag_growth"),
        (GuardSettings(loop_lag_s=0.2), {"loop_lag_s": 0.1}, "loop_lag"),
        (GuardSettings(p99_s=9.0, error_rate=0.02), {"p99_s": 0.1, "error_rate": 0.01}, "error_rate"),
    ],
)
def test_every_signal_cuts_and_only_what_has_an_objective(
    objectives: GuardSettings, vitals: dict[str, float], why: str
) -> None:
    normal = Normal(objectives)
    normal.tick(40)
    assert (normal.level.strain, normal.level.why) == (0.0, "")
    assert normal.tick(**vitals) == 0.5
    assert (normal.level.strain, normal.level.why) == (0.5, why)
    other = Normal(GuardSettings(p99_s=9.0))
    other.tick(60)
    assert other.tick(**vitals) == 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0.0, 0.5)), max_size=60))
def test_the_level_stays_between_0_and_1_and_never_rises_while_normal_suffers(p99s: list[float | None]) -> None:
    normal = Normal()
    for p99_s in p99s:
        before = normal.level.value
        after = normal.blind() if p99_s is None else normal.tick(p99_s=p99_s)
        assert 0.0 <= after <= 1.0
        if p99_s is None or p99_s >= 0.1 * CUT_AT:
            assert after <= before
        if p99_s is not None and p99_s >= 0.1:
            assert after == 0.0


def test_without_an_objective_everything_is_open_and_nothing_is_a_strain() -> None:
    level = Level(GuardSettings())
    assert (level.value, level.strain, level.why, level.latched) == (1.0, 0.0, "", False)
    assert level.tick(Vitals(1000.0, 100, p99_s=9.0), 1000.0) == 1.0
    assert (level.strain, level.why) == (0.0, "")


def test_vitals_may_be_so_old_and_no_older() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.blind(old_s=FRESH_S) == 1.0
    assert normal.blind() == 0.5
    assert normal.level.strain == 1.0


def test_what_comes_back_comes_in_steps_of_what_was_cut_last_however_blind_it_was_since() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    assert normal.tick(p99_s=0.06) == 0.5
    normal.tick(4, p99_s=0.01)
    before = normal.level.value
    assert normal.tick(p99_s=0.06) == before / 2, "of that level the steps are from now on"
    normal.blind()
    assert normal.tick(p99_s=0.01) == pytest.approx(before / 4 + 0.05 * before)
    normal.tick(p99_s=0.2)
    level = normal.tick(p99_s=0.01)
    assert normal.tick(p99_s=0.01) == pytest.approx(2 * level)


def test_as_little_as_a_hundredth_is_left_and_nothing_less() -> None:
    normal = Normal()
    normal.tick(40, p99_s=0.01)
    normal.level.value = 2 * LEAST
    assert normal.blind() == LEAST
    assert normal.blind() == 0.0


def test_trips_count_that_lie_within_a_minute_the_first_and_the_last_too() -> None:
    for apart_s, latched in ((TRIPS_WITHIN_S / 2, True), (TRIPS_WITHIN_S / 2 + TICK_S, False)):
        normal = Normal()
        for _ in range(TRIPS):
            assert not normal.level.latched
            normal.tick(p99_s=0.2)
            normal.tick(round(apart_s / TICK_S) - 1, p99_s=0.01)
        assert normal.level.latched is latched, apart_s


# What it leaves


def admitted(gates: Gates, begin: float, seconds: float, every_s: float = 0.001) -> int:
    """Ask all the time, each call ending at once; return how many were admitted."""
    gate, count = gates.gate("claim"), 0
    for number in range(round(seconds / every_s)):
        now = begin + number * every_s
        ticket = gate.enter(now)
        count += ticket.admitted
        gate.leave(ticket, Outcome.HANDLED, now)
    return count


def gates_of(guard: Held, **fields: Any) -> Gates:
    return Gates(lane_of(**fields), Listeners(), guard)  # type: ignore[arg-type]


def test_the_hard_rate_is_multiplied_by_the_level() -> None:
    guard = Held(0.1)
    gates = gates_of(guard, rates={"claim": RateRule(hard_per_s=500.0, burst=1)})
    assert admitted(gates, 0.0, 2.0) == pytest.approx(100, abs=3)
    guard.hold(0.5)
    assert admitted(gates, 2.0, 2.0) == pytest.approx(500, abs=15)
    guard.hold(0.0)
    assert admitted(gates, 4.0, 2.0) == 0
    guard.hold(1.0)
    assert admitted(gates, 6.0, 2.0) == pytest.approx(1000, abs=5)


def test_what_was_seen_is_multiplied_where_the_limit_is_far_above_it() -> None:
    guard = Held(1.0)
    gates = gates_of(guard, rates={"claim": RateRule(hard_per_s=1e6)})
    assert admitted(gates, 0.0, 3.0, 0.002) == 1500, "at a level of 1 nothing is held back"
    guard.hold(0.5)
    assert admitted(gates, 3.0, 2.0) == pytest.approx(500, rel=0.1)


def test_a_command_without_limits_is_cut_too_and_begins_with_one_call_at_a_time() -> None:
    guard = Held(0.1)
    gates = gates_of(guard)
    gate = gates.gate("claim")
    first, second = gate.enter(0.0), gate.enter(0.0)
    assert (first.admitted, second.admitted, second.by) == (True, False, "guard")
    gate.leave(first, Outcome.HANDLED, 0.0)
    guard.hold(0.0)
    assert not gate.enter(0.0).admitted


def test_at_a_level_of_1_what_holds_calls_back_grows_step_by_step_and_nothing_opens_at_a_stroke() -> None:
    guard = Held(1.0)
    gate = gates_of(guard).gate("claim")
    inside = [1]
    assert gate.enter(0.0).admitted
    for tick in range(1, 20):
        gate.enter(tick / 2)
        guard.hold(1.0)
        inside.append(inside[-1] + sum(gate.enter(tick / 2).admitted for _ in range(100)))
    assert inside[1:] == [each + 1 for each in inside[:-1]]


def test_what_holds_nothing_back_does_not_grow() -> None:
    guard = Held(1.0)
    gate = gates_of(guard).gate("claim")
    for tick in range(100):
        guard.hold(1.0)
        gate.leave(gate.enter(tick / 2), Outcome.HANDLED, tick / 2)
    assert [gate.enter(50.0).admitted for _ in range(2)] == [True, False]


def test_after_a_cut_the_rate_grows_again_up_to_the_command_s_own() -> None:
    guard = Held(1.0)
    gates = gates_of(guard, rates={"claim": RateRule(hard_per_s=1000.0)})
    admitted(gates, 0.0, 2.0, 0.01)
    guard.hold(0.5)
    assert admitted(gates, 2.0, 1.0) == pytest.approx(50, rel=0.1)
    seconds = []
    for second in range(60):
        for half in range(2):
            guard.hold(1.0)
            count = admitted(gates, 3.0 + second + half / 2, 0.5)
        seconds.append(2 * count)
    assert seconds == sorted(seconds) or max(seconds) == pytest.approx(1000, rel=0.02)
    assert seconds[0] < 130
    assert seconds[-1] == pytest.approx(1000, rel=0.02)


def test_the_cap_is_multiplied_and_one_call_goes_on_while_the_level_is_above_0() -> None:
    guard = Held(0.25)
    gates = gates_of(guard, breakers={"claim": BreakerRule(max_concurrent=8)})
    gate = gates.gate("claim")
    assert [gate.enter(0.0).admitted for _ in range(4)] == [True, True, False, False]
    guard.hold(0.01)
    assert gates_of(guard, breakers={"claim": BreakerRule(max_concurrent=8)}).gate("claim").enter(0.0).admitted


def test_a_refusal_by_the_guard_takes_nothing_of_the_limit() -> None:
    guard = Held(0.0)
    gates = gates_of(guard, rates={"claim": RateRule(hard_per_s=1.0, burst=3)})
    assert admitted(gates, 0.0, 0.1) == 0
    guard.hold(1.0)
    assert admitted(gates, 0.1, 0.01) == 3


def test_of_a_joint_limit_shadow_is_admitted_what_normal_leaves() -> None:
    guard = Held(1.0, normal={"claim": 300.0})
    gates = gates_of(guard, rates={"claim": RateRule(joint_per_s=400.0)})
    assert admitted(gates, 0.0, 2.0) == pytest.approx(200, abs=5)
    guard.hold(1.0, claim=0.0)
    assert admitted(gates, 2.0, 2.0) == pytest.approx(800, abs=20)
    guard.hold(1.0, claim=500.0)
    assert admitted(gates, 4.0, 2.0) == 0


def test_a_lane_without_a_guard_has_no_such_stage() -> None:
    gates = Gates(lane_of(rates={"claim": RateRule(hard_per_s=1.0, burst=1)}), Listeners())
    gates.gate("claim")
    assert gates._stages["claim"].share is None


def test_the_stage_follows_a_live_change_of_the_rate() -> None:
    guard = Held(0.5)
    gates = gates_of(guard, rates={"claim": RateRule(hard_per_s=100.0, burst=1)})
    assert admitted(gates, 0.0, 2.0) == pytest.approx(100, abs=3)
    gates.adopt(lane_of(rates={"claim": RateRule(hard_per_s=400.0, burst=1)}), 2.0)
    assert admitted(gates, 2.0, 2.0) == pytest.approx(400, abs=12)


# The thread


@pytest.fixture
def guard(board: Board, ear: Ear) -> Guard:
    return Guard(SLO, board, Listeners([ear]))


def test_before_it_has_looked_nothing_goes_on(guard: Guard) -> None:
    assert guard.level == 0.0
    assert Share(guard, "claim", None).check(0.0) > 0.0  # type: ignore[arg-type] # it is not looked at


def test_it_looks_at_once_and_tells_what_it_holds(board: Board, ear: Ear, time: Time) -> None:
    guard = Guard(SLO, board, Listeners([ear]), time)
    board.write(Vitals(time.now, 100, p99_s=0.01, rates={"claim": 7.0}))
    with guard:
        until(lambda: guard.ticks)
    assert guard.level > START
    assert guard.normal == {"claim": 7.0}
    told = next(each for each in ear.heard if isinstance(each, Guarding))
    assert (told.lane, told.level, told.strain, told.latched) == (Lane.SHADOW, guard.level, pytest.approx(0.1), False)


def test_without_a_normal_lane_beside_it_shadow_stands_still(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        guard.tick()
    assert guard.level == 0.0
    assert caplog.text.count("guard_cuts") == 1
    assert "blind" in caplog.text


def test_when_looking_fails_nothing_goes_on(guard: Guard, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.level = 1.0

    def fails() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(board, "read", fails)
    with guard:
        until(lambda: guard.ticks)
    assert guard.level == 0.0


def test_pulse_and_guard_meet_at_the_board(board: Board, ear: Ear) -> None:
    with Pulse(board) as pulse, Guard(GuardSettings(p99_s=0.1), board, Listeners([ear])) as guard:
        until(lambda: guard.level > START)
        pulse.on(carried((0.5,) * 100))
        until(lambda: guard.level == 0.0)
    assert any(isinstance(each, Guarding) and each.why == "p99" for each in ear.heard)


def test_guarded_calls_of_both_lanes_in_one_process_have_a_guard_too(ear: Ear) -> None:
    normal = lane_of(Lane.NORMAL, guard=SLO)
    both = Settings("s", MarkSettings(), normal, replace(normal, lane=Lane.SHADOW))
    guarded = Guarded(both, [ear])
    try:
        with guarded("claim"):
            pass
        with ss.entered(ss.Mark(run="r1")):
            with guarded("claim", wait_s=10.0):
                pass
            with pytest.raises(ss.RefusedError) as refused, guarded("claim"), guarded("claim"):
                pass
        assert refused.value.by == "guard"
        with guarded("claim"):
            until(lambda: any(isinstance(each, Guarding) and each.level > 0.0 for each in ear.heard))
            threading.Event().wait(2 * (SLO.p99_s or 0.0))
        until(lambda: any(isinstance(each, Guarding) and each.why == "p99" for each in ear.heard))
        assert guarded.gates(Lane.NORMAL)._stages["claim"].share is None  # type: ignore[union-attr]
    finally:
        guarded.close()
