"""A command's gate around any call: sync, async, as a block and as a decorator, in both lanes."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from shadowstream.config.model import (
    BreakerRule,
    KeysRule,
    MarkSettings,
    RateRule,
    Settings,
)
from shadowstream.errors import SetupError
from shadowstream.events import Transition
from shadowstream.gate import Guarded
from shadowstream.lane import Lane
from tests.lanes import lane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.gate.conftest import Ear

CLAIM = "voucher.code.batch_get_code_using_cache"
MARK = ss.Mark(run="fcst-1")
TWO = RateRule(hard_per_s=1.0, burst=2)
BREAKER = BreakerRule(window=2, min_calls=2, failure_rate=0.5, open_for_s=10.0, half_open=1)


@dataclass
class Time:
    """Seconds that pass when somebody sleeps."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def guarded(time: Time, ear: Ear) -> Callable[..., Guarded]:
    """Make one; keywords are fields of both lanes' settings, ``shadow`` those of shadow alone (None: it is off)."""

    def made(shadow: dict[str, Any] | None = {}, **both: Any) -> Guarded:  # noqa: B006 - never changed
        normal = lane_of(Lane.NORMAL, **both)
        other = None if shadow is None else replace(normal, lane=Lane.SHADOW, **shadow)
        settings = Settings(service="s", mark=MarkSettings(), normal=normal, shadow=other)
        return Guarded(settings, [ear], clock=lambda: time.now)

    return made


def test_a_call_is_made_by_the_rules_of_the_lane_it_is_made_in(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(rates={CLAIM: TWO}, shadow={"rates": {CLAIM: RateRule(hard_per_s=1.0, burst=1)}})

    @guard(CLAIM)
    def batch_get(codes: list[str]) -> list[str]:
        return codes

    with ss.entered(MARK):
        assert batch_get(["a"]) == ["a"]
        with pytest.raises(ss.RefusedError) as refused:
            batch_get(["b"])
    assert (refused.value.command, refused.value.lane, refused.value.by) == (CLAIM, Lane.SHADOW, "rate")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    assert [batch_get([each]) for each in "ab"] == [["a"], ["b"]], "normal has what is its own"
    with pytest.raises(ss.RefusedError, match=r"batch_get_code_using_cache in lane normal: its rate says no"):
        batch_get(["c"])


def test_an_async_function_and_both_kinds_of_block_go_through_the_same_gate(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(rates={CLAIM: RateRule(hard_per_s=1.0, burst=3)})

    @guard(CLAIM)
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def work() -> None:
        assert await fetch(7) == 7
        async with guard(CLAIM) as ticket:
            assert ticket.admitted
        with guard(CLAIM):
            pass
        with pytest.raises(ss.RefusedError):
            await fetch(8)
        with pytest.raises(ss.RefusedError):
            async with guard(CLAIM):
                pytest.fail("entered")

    asyncio.run(work())


def test_a_refusal_may_be_a_value(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(rates={CLAIM: RateRule(hard_per_s=1.0, burst=1)})
    answers = []
    for _ in range(2):
        with guard.asked(CLAIM) as ticket:
            answers.append((ticket.admitted, ticket.by, ticket.wait_s))
    assert answers[0] == (True, "", 0.0)
    assert answers[1] == (False, "rate", pytest.approx(1.0))


def test_a_refused_call_waits_as_long_as_it_was_told_and_no_longer(
    guarded: Callable[..., Guarded], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shadowstream.gate.guarded.time.sleep", time.sleep)
    guard = guarded(rates={CLAIM: RateRule(hard_per_s=1.0, burst=1)})
    with guard(CLAIM):
        pass
    with guard(CLAIM, wait_s=1.5):
        assert time.slept == [pytest.approx(1.0)]
    with pytest.raises(ss.RefusedError), guard(CLAIM, wait_s=0.5):
        pytest.fail("entered")
    assert len(time.slept) == 1, "nobody waits for what cannot come in time"


def test_an_async_call_waits_without_holding_up_the_loop(
    guarded: Callable[..., Guarded], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        time.sleep(seconds)

    monkeypatch.setattr("shadowstream.gate.guarded.asyncio.sleep", sleep)
    guard = guarded(rates={CLAIM: RateRule(hard_per_s=1.0, burst=1)})

    async def work() -> None:
        for _ in range(3):
            async with guard(CLAIM, wait_s=5.0):
                pass

    asyncio.run(work())
    assert time.slept == [pytest.approx(1.0)] * 2


def test_failures_open_the_lane_s_breaker_and_no_other(guarded: Callable[..., Guarded], ear: Ear) -> None:
    guard = guarded(breakers={CLAIM: BREAKER})

    @guard(CLAIM)
    def fail() -> None:
        raise ConnectionError("downstream")

    with ss.entered(MARK):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                fail()
        with pytest.raises(ss.RefusedError, match="its breaker says no"):
            fail()
    with pytest.raises(ConnectionError):
        fail()
    assert [(each.lane, each.after) for each in ear.heard if isinstance(each, Transition)] == [(Lane.SHADOW, "open")]


@pytest.mark.parametrize("interruption", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_call_counts_as_neither_and_gives_its_place_back(
    guarded: Callable[..., Guarded], interruption: type[BaseException]
) -> None:
    guard = guarded(breakers={CLAIM: replace(BREAKER, max_concurrent=1)})
    for _ in range(3):
        with pytest.raises(interruption), guard(CLAIM):
            raise interruption
    with guard(CLAIM), pytest.raises(ss.RefusedError, match="its cap says no"), guard(CLAIM):
        pytest.fail("entered")


def test_keys_are_taken_from_the_arguments_by_name(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(key_limits={"claim": KeysRule(("user_id", "promotion_id"), hard_per_s=1.0, burst=1)})

    @guard("claim")
    def claim(user_id: int, promotion_id: str = "p", **more: object) -> None: ...

    claim(1)
    with pytest.raises(ss.RefusedError, match="its keys says no"):
        claim(user_id=1, promotion_id="q")
    claim(2, "q")
    claim(3, promotion_id="r", colour="red")
    with pytest.raises(ss.RefusedError):
        claim(4, "q")
    with guard("claim", user_id=5, promotion_id="s"):
        pass
    with pytest.raises(ss.RefusedError), guard("claim", user_id=5, promotion_id="t"):
        pytest.fail("entered")


def test_a_refusal_by_the_rate_takes_nothing_from_any_key(guarded: Callable[..., Guarded], time: Time) -> None:
    guard = guarded(
        rates={"claim": RateRule(hard_per_s=1.0, burst=1)},
        key_limits={"claim": KeysRule(("user_id",), hard_per_s=0.1, burst=1)},
    )
    with guard("claim", user_id=1):
        pass
    for _ in range(5):
        with pytest.raises(ss.RefusedError, match="rate"), guard("claim", user_id=2):
            pytest.fail("entered")
    time.now += 1
    with guard("claim", user_id=2):
        pass


def test_a_shadow_call_is_refused_while_the_shadow_lane_is_off(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(shadow=None)
    with ss.entered(MARK), pytest.raises(ss.RefusedError, match="the shadow lane is off"), guard(CLAIM, wait_s=60):
        pytest.fail("entered")
    with guard(CLAIM):
        pass
    assert guard.gates(Lane.SHADOW) is None


def test_a_command_without_rules_is_open(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    for _ in range(100):
        with guard("free") as ticket:
            assert ticket.admitted


def test_a_generator_is_refused_where_it_is_decorated(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()

    def rows() -> Any:
        yield 1

    async def stream() -> Any:
        yield 1

    for each in (rows, stream):
        with pytest.raises(SetupError, match="is a generator"):
            guard(CLAIM)(each)


def test_what_the_readme_shows_runs_as_it_stands(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    shown = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (config,) = [each for language, each in shown if language == "yaml" and "service: uservoucher" in each]
    (program,) = [each for language, each in shown if language == "python" and "ss.Guarded(" in each]
    (tmp_path / "shadowstream.yaml").write_text(config)
    settings = ss.load(tmp_path / "shadowstream.yaml", environ={"SHADOW_KEY_1": "not a secret"})
    named: dict[str, Any] = {"ss": ss, "settings": settings, "redis": {"k": 7}, "key": "k"}
    exec(program, named)  # noqa: S102 - our own
    assert named["stock"] == 7
    assert named["batch_get"](1, ["a"]) is None


def test_many_threads_in_both_lanes_take_exactly_what_is_there(
    guarded: Callable[..., Guarded], hammer: Callable[[Callable[[int], int]], list[int]]
) -> None:
    guard = guarded(rates={CLAIM: RateRule(hard_per_s=1e-6, burst=100)}, key_limits={})

    def call(number: int) -> int:
        admitted = 0
        with ss.entered(MARK if number % 2 else None):
            for _ in range(200):
                with guard.asked(CLAIM) as ticket:
                    admitted += ticket.admitted
        return admitted if number % 2 else admitted * 1000

    assert sum(hammer(call)) == 100 + 100 * 1000
