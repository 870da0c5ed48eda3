"""The laws over numbers: each one violated gives a failing line, and only that one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shadowstream.fcst.verdict import Figures, Finding, Sent, Times, TopicCount, judged
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence


def times(phase: str, p99_s: float | None, typical_s: float | None = 0.04, messages: int = 600) -> Times:
    return Times(phase, Lane.NORMAL, messages, 0.02, p99_s, p99_s, typical_s)


GOOD = Figures(
    normal_per_s=40.0,
    shadow_per_s=399.0,
    backlog=4400,
    times=(times("baseline", 0.06), times("ramp", 0.08), times("stuck", 0.07), times("release", 0.09)),
    sent=(Sent(Lane.NORMAL, 2000, 2000, 0), Sent(Lane.SHADOW, 9000, 9000, 0)),
    topics=(
        TopicCount("voucher.claimed", Lane.NORMAL, 2000, {"handled": 2000}),
        TopicCount("voucher.claimed", Lane.SHADOW, 9000, {"handled": 8990, "failed": 7, "expired": 3}),
    ),
    opened={"voucher.use shadow": 1},
)


def broken(figures: Figures) -> Sequence[Finding]:
    return [finding for finding in judged(figures) if not finding.ok]


def only_broken(figures: Figures) -> Finding:
    findings = broken(figures)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_good_run_breaks_no_law() -> None:
    assert broken(GOOD) == []


def test_a_slow_normal_p99_breaks_the_first_law() -> None:
    slow = replace(GOOD, times=(*GOOD.times[:2], times("stuck", 1.5), *GOOD.times[3:]))

    finding = only_broken(slow)

    assert finding.law == "real users did not feel it"
    assert "stuck 1500 ms" in finding.text
    assert "over: stuck" in finding.text


def test_a_typical_second_that_is_slow_breaks_the_first_law_although_the_wide_limit_holds() -> None:
    slow = replace(GOOD, times=(*GOOD.times[:1], times("ramp", 0.5, typical_s=0.3), *GOOD.times[2:]))

    assert "in a typical second 40 ms before; ramp 300 ms" in only_broken(slow).text


def test_one_spoilt_second_of_a_busy_machine_breaks_no_law() -> None:
    assert broken(replace(GOOD, times=(*GOOD.times[:2], times("stuck", 0.6), *GOOD.times[3:]))) == []


def test_a_phase_in_which_no_normal_message_arrived_breaks_the_first_law() -> None:
    assert only_broken(replace(GOOD, times=(*GOOD.times[:2], times("stuck", None, None)))).law.startswith("real users")


def test_too_few_messages_before_the_test_prove_nothing() -> None:
    assert "too few" in only_broken(replace(GOOD, times=(times("baseline", 0.06, messages=20), *GOOD.times[1:]))).text
    assert "too few" in only_broken(replace(GOOD, times=GOOD.times[1:])).text


def test_a_missing_normal_message_is_named() -> None:
    sent = (Sent(Lane.NORMAL, 2000, 1999, 0, missing=("n000042",)), GOOD.sent[1])

    finding = only_broken(replace(GOOD, sent=sent))

    assert finding.law == "normal: sent = handled"
    assert "1 missing (n000042)" in finding.text


def test_a_normal_message_that_was_dead_lettered_was_not_handled() -> None:
    sent = (Sent(Lane.NORMAL, 2000, 1999, 0, {"voucher.used.dlq": 1}), GOOD.sent[1])

    assert "1 on voucher.used.dlq" in only_broken(replace(GOOD, sent=sent)).text


def test_a_normal_message_handled_twice_is_told() -> None:
    assert "1 twice" in only_broken(replace(GOOD, sent=(Sent(Lane.NORMAL, 2000, 2000, 1), GOOD.sent[1]))).text


def test_a_lost_shadow_message_breaks_a_law_and_a_parked_one_does_not() -> None:
    parked = Sent(Lane.SHADOW, 9000, 8990, 0, {"voucher.used.shadow.parked": 10})
    lost = Sent(Lane.SHADOW, 9000, 8995, 0, missing=tuple(f"s{n:06d}" for n in range(5)))

    assert broken(replace(GOOD, sent=(GOOD.sent[0], parked))) == []
    finding = only_broken(replace(GOOD, sent=(GOOD.sent[0], lost)))
    assert finding.law == "shadow: nothing lost"
    assert "5 missing (s000000, s000001, s000002 ...)" in finding.text


def test_a_message_without_an_outcome_or_with_two_breaks_the_sum() -> None:
    for outcomes in ({"handled": 8999}, {"handled": 9000, "failed": 1}):
        wrong = TopicCount("voucher.claimed", Lane.SHADOW, 9000, outcomes)

        finding = only_broken(replace(GOOD, topics=(GOOD.topics[0], wrong)))

        assert finding.law == "each message in one outcome"
        assert "voucher.claimed shadow: 9000 is not" in finding.text


def test_a_rebalance_is_named_beside_a_wrong_sum() -> None:
    wrong = TopicCount("voucher.claimed", Lane.SHADOW, 9000, {"handled": 9004})

    assert "taken away 2 times" in only_broken(replace(GOOD, topics=(wrong,), taken_away=2)).text


def test_a_run_that_counted_no_shadow_topic_proves_nothing() -> None:
    assert only_broken(replace(GOOD, topics=GOOD.topics[:1])).law == "each message in one outcome"


def test_a_message_that_changed_its_lane_is_named() -> None:
    finding = only_broken(replace(GOOD, strayed=("s000007",)))

    assert finding.law == "the lane never changes"
    assert "s000007" in finding.text


def test_a_normal_breaker_that_opened_breaks_a_law() -> None:
    finding = only_broken(replace(GOOD, opened={"voucher.use shadow": 2, "voucher.use normal": 1}))

    assert finding.law == "shadow trips no breaker of normal"
    assert "voucher.use normal 1 times" in finding.text


def test_what_does_not_come_to_rest_is_told() -> None:
    assert "12 shadow messages" in only_broken(replace(GOOD, unquiet="12 shadow messages have not come")).text


def test_a_load_that_never_came_to_its_peak_proves_nothing() -> None:
    assert "proves nothing" in only_broken(replace(GOOD, shadow_per_s=200.0)).text


def test_a_handler_that_never_hung_proves_nothing() -> None:
    assert "proves nothing" in only_broken(replace(GOOD, backlog=3)).text
