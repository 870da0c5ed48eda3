"""The oracle of chaos can fail: each law is broken once, and just that one is found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.chaos import oracle
from tests.chaos.oracle import Commit, Stand
from tests.chaos.records import Kind, Told
from tests.unit.chaos.evidence import KEYED, TOPIC, entry, sound

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.oracle import Evidence, Logged


def law(check: Callable[..., object]) -> str:
    return (check.__doc__ or "").strip().rstrip(".")


def found(evidence: Evidence) -> set[str]:
    return {violation.law for violation in oracle.judged(evidence)}


def some(evidence: Evidence, lane: str, kind: Kind = Kind.PLAIN, topic: str = TOPIC) -> Logged:
    """Return one message from the middle of the log."""
    ours = [each for each in evidence.log if (each.topic, each.order.lane, each.order.kind) == (topic, lane, kind)]
    return ours[len(ours) // 2]


def without(evidence: Evidence, logged: Logged) -> None:
    """Forget what handlers wrote down about a message."""
    entries = evidence.journals.entries
    evidence.journals.entries = [each for each in entries if each.number != logged.order.number]


def counted_one_less(evidence: Evidence, lane: str, by: int = 1) -> None:
    told = evidence.journals.told
    evidence.journals.told = [replace(each, count=each.count - by) if each.lane == lane else each for each in told]


def test_a_sound_run_holds() -> None:
    assert oracle.judged(sound()) == []


def test_every_law_is_a_sentence_of_its_own() -> None:
    laws = [law(check) for check in oracle.CHECKS]
    assert len(set(laws)) == len(laws) == 11
    assert all(laws)


@pytest.mark.parametrize("lane", ["n", "s"])
def test_a_handler_that_drops_a_message_before_it_writes_it_down_is_found(lane: str) -> None:
    evidence = sound()
    without(evidence, some(evidence, lane))
    counted_one_less(evidence, lane)

    assert found(evidence) == {law(oracle.no_message_is_lost), law(oracle.no_commit_is_too_early)}


def test_a_worker_that_commits_before_the_handler_is_done_is_found_although_it_is_handled_later() -> None:
    evidence = sound()
    late = some(evidence, "n")
    without(evidence, late)
    evidence.journals.entries.append(entry(late, at_ns=evidence.final[0].at_ns - 1))

    assert law(oracle.no_commit_is_too_early) in found(evidence)
    assert law(oracle.no_message_is_lost) not in found(evidence)


def test_a_commit_that_is_too_early_is_found_although_the_right_ones_follow() -> None:
    evidence = sound()
    first = evidence.commits[0]
    hasty = Commit(first.lane, first.place, evidence.final[0].positions[first.place], first.at_ns)
    evidence.commits.insert(0, hasty)

    assert law(oracle.no_commit_is_too_early) in found(evidence)


def test_a_commit_behind_what_was_handled_is_none_too_early() -> None:
    evidence = sound()
    evidence.commits = evidence.commits[:5]

    assert found(evidence) == set()


def test_a_message_handled_in_the_other_lane_is_found() -> None:
    evidence = sound()
    mine = some(evidence, "n")
    evidence.journals.entries.append(replace(entry(mine, 5000, process="shadow-9"), lane="s"))

    assert found(evidence) == {law(oracle.no_message_changes_its_lane)}


def test_a_message_handled_in_the_other_lane_alone_is_lost_besides() -> None:
    evidence = sound()
    mine = some(evidence, "s")
    without(evidence, mine)
    counted_one_less(evidence, "s")
    evidence.journals.entries.append(replace(entry(mine, 5000, process="normal-9"), lane="n"))

    assert {law(oracle.no_message_changes_its_lane), law(oracle.no_message_is_lost)} <= found(evidence)


def test_two_messages_of_a_partition_in_the_wrong_order_are_found() -> None:
    evidence = sound()
    without(evidence, early := some(evidence, "n"))
    evidence.journals.entries.append(entry(early, at_ns=evidence.final[0].at_ns - 1))

    assert law(oracle.order_is_kept) in found(evidence)


@pytest.mark.parametrize(("apart", "laws"), [(1, set()), (4, {law(oracle.order_is_kept)})])
def test_order_is_asked_for_per_key_where_that_is_promised(apart: int, laws: set[str]) -> None:
    evidence = sound()
    # Two keys in turn: the next message has the other key, the fourth one the same.
    ours = [each for each in evidence.log if each.topic == KEYED and each.order.lane == "n"]
    first, overtaking = ours[0], ours[apart]
    without(evidence, first)
    after_ns = evidence.acked[overtaking.order.number].at_ns + 2
    evidence.journals.entries.append(entry(first, at_ns=after_ns))
    evidence.commits.clear()
    assert (first.key == overtaking.key) is (apart == 4)

    assert found(evidence) == laws


@pytest.mark.parametrize(("lane", "killed"), [("s", True), ("s", False), ("n", True)])
def test_a_shadow_message_may_have_been_parked_by_a_process_that_was_killed(lane: str, *, killed: bool) -> None:
    evidence = sound()
    ours = [each for each in evidence.log if each.topic == KEYED and each.order.lane == lane]
    first, overtaking = ours[0], ours[4]
    without(evidence, first)
    evidence.journals.entries.append(entry(first, at_ns=evidence.acked[overtaking.order.number].at_ns + 2))
    evidence.commits.clear()
    if killed:
        evidence.journals.closed.clear()

    excused = lane == "s" and killed
    assert (law(oracle.order_is_kept) in found(evidence)) is not excused


def test_a_repeated_message_breaks_no_order() -> None:
    evidence = sound()
    again = some(evidence, "n")
    evidence.journals.entries.append(entry(again, at_ns=evidence.final[0].at_ns - 1, process="normal-2"))

    assert found(evidence) == set()


def test_a_position_that_goes_back_is_found() -> None:
    evidence = sound()
    latest = evidence.commits[-1]
    evidence.commits.append(replace(latest, position=latest.position - 3, at_ns=latest.at_ns + 1))

    assert found(evidence) == {law(oracle.no_position_goes_back)}


def test_a_position_goes_back_only_to_a_commit_that_was_said_before_and_not_answered() -> None:
    evidence = sound()
    latest = evidence.commits[-1]
    before = next(
        each
        for each in evidence.commits
        if (each.lane, each.place) == (latest.lane, latest.place) and each.position < latest.position
    )
    evidence.commits += [replace(before, at_ns=latest.at_ns + 1), replace(latest, at_ns=latest.at_ns + 2)]
    assert found(evidence) == {law(oracle.no_position_goes_back)}

    evidence.journals.told.append(Told("commit-failed", latest.lane, "_TIMED_OUT", 1, "p"))
    assert found(evidence) == set()
    evidence.commits.remove(before)
    assert found(evidence) == {law(oracle.no_position_goes_back)}


@pytest.mark.parametrize("lane", ["n", "s"])
def test_a_clean_stop_that_leaves_something_handled_uncommitted_is_found(lane: str) -> None:
    evidence = sound()
    handled = some(evidence, lane)
    evidence.calm_stops = [Stand(lane, evidence.final[0].at_ns, {handled.place: handled.offset})]

    assert found(evidence) == {law(oracle.a_clean_stop_commits_what_is_handled)}


def test_a_clean_stop_before_something_unhandled_holds() -> None:
    evidence = sound()
    handled = some(evidence, "n")
    at_ns = next(each.at_ns for each in evidence.journals.entries if each.number == handled.order.number)
    evidence.calm_stops = [Stand("n", at_ns - 1, {handled.place: handled.offset})]

    assert found(evidence) == set()


def test_messages_left_in_the_end_are_found() -> None:
    evidence = sound()
    evidence.final = [replace(each, positions=dict.fromkeys(each.positions, 1)) for each in evidence.final]

    assert found(evidence) == {law(oracle.in_the_end_nothing_is_left)}


def test_an_acknowledged_message_that_is_not_in_the_log_is_found() -> None:
    evidence = sound()
    missing = some(evidence, "n")
    evidence.log.remove(missing)

    assert law(oracle.kafka_keeps_what_it_acknowledged) in found(evidence)


def test_an_acknowledgement_that_does_not_say_where_the_message_is_counts_for_its_partition() -> None:
    evidence = sound()
    kept, missing = evidence.log[0], some(evidence, "s")
    for each in (kept, missing):
        evidence.acked[each.order.number] = replace(evidence.acked[each.order.number], offset=None)
    assert found(evidence) == set()

    evidence.log.remove(missing)
    assert law(oracle.kafka_keeps_what_it_acknowledged) in found(evidence)


def test_a_message_that_the_producer_wrote_twice_is_kept_whichever_of_them_it_was_told_of() -> None:
    evidence = sound()
    twin = evidence.log[0]
    evidence.log.insert(1, replace(twin, offset=twin.offset - 1))

    assert found(evidence) == set()


@pytest.mark.parametrize("kind", [Kind.POISON, Kind.GARBLED])
def test_a_message_whose_copy_is_missing_is_lost(kind: Kind) -> None:
    evidence = sound()
    number = some(evidence, "s", kind).order.number
    del evidence.copies[oracle.COPIES_OF[kind]][number]

    assert found(evidence) == {law(oracle.no_message_is_lost)}


@pytest.mark.parametrize(("kind", "place"), [(Kind.EXPIRED, "parked"), (Kind.PLAIN, "dlq"), (Kind.GARBLED, "dlq")])
def test_a_message_that_ends_as_its_kind_never_should_is_found(kind: Kind, place: str) -> None:
    evidence = sound()
    evidence.copies[place][some(evidence, "s", kind).order.number] += 1

    assert found(evidence) == {law(oracle.each_message_has_its_outcome)}


def test_a_normal_message_that_is_parked_is_found() -> None:
    evidence = sound()
    evidence.copies["parked"][some(evidence, "n").order.number] += 1

    assert found(evidence) == {law(oracle.each_message_has_its_outcome)}


def test_a_worker_that_counts_less_than_its_handlers_write_down_is_found() -> None:
    evidence = sound()
    counted_one_less(evidence, "n")

    assert found(evidence) == {law(oracle.the_worker_counts_what_it_does)}


def test_a_killed_worker_need_not_have_counted_everything() -> None:
    evidence = sound()
    counted_one_less(evidence, "n")
    evidence.journals.closed.clear()

    assert found(evidence) == set()


def test_what_the_run_saw_go_wrong_is_found() -> None:
    evidence = sound()
    evidence.troubles.append("member-1 did not end")

    assert found(evidence) == {law(oracle.nothing_else_went_wrong)}
