"""The owner of a consumer, on a scripted client: what it reads, hands over, pauses and commits."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka import Message as RawMessage

from shadowstream.errors import BrokerError
from shadowstream.events import CommitFailed, Rebalanced, Troubled
from shadowstream.kafka.clock import Clock
from shadowstream.kafka.cursor import Beginning
from shadowstream.kafka.offsets import Done
from shadowstream.lane import Lane
from tests.unit.kafka.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.kafka.offsets import Piece


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.door.set()
    rig.parts.crews["t"].end()


def test_what_is_handled_is_committed_and_nothing_else(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(3, 4, 9)
    rig.turn_until(rig.inside.is_set)
    assert all(offsets == {("t", 0): 3} for offsets in rig.client.commits)
    rig.door.set()
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 10}])
    assert rig.handled == [3, 4, 9]


def test_a_strand_that_is_done_before_the_cursor_goes_on_is_booked_all_the_same(rig: Rig) -> None:
    crew = rig.parts.crews["t"]

    def put(pieces: list[Piece]) -> None:
        for piece in pieces:
            asyncio.run(crew.engine.carry(piece, crew))  # type: ignore[arg-type] # hands and crew are one

    crew.put = put  # type: ignore[method-assign]
    rig.door.set()
    rig.assign(0)
    rig.lay_out(3, 4)
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 5}])


def test_a_message_of_a_partition_that_is_not_ours_is_not_handled(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.lay_out(1, partition=5)
    rig.lay_out(2, partition=0)
    rig.turn_until(lambda: rig.handled == [2])


def test_a_stuck_topic_is_paused_and_polling_goes_on(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(*range(10))
    rig.turn_until(lambda: rig.client.paused == {("t", 0)})
    before = rig.client.polls
    for _ in range(5):
        rig.cursor.turn()
    assert rig.client.polls == before + 5
    rig.door.set()
    rig.turn_until(lambda: rig.client.paused == set())
    assert rig.handled == list(range(10))


def test_after_a_rebalance_a_full_topic_stays_paused_and_the_others_are_not(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(*range(10))
    rig.turn_until(lambda: rig.client.paused == {("t", 0)})
    rig.parts.crews["other"] = rig.parts.crews["t"]
    rig.client.paused = {("other", 0)}
    rig.assign(0, 1, of={"other": 0})
    assert rig.client.paused == {("t", 0), ("t", 1)}


def test_a_revoked_partition_finishes_what_runs_starts_nothing_and_is_committed_at_once(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(1, 2, 3)
    rig.turn_until(rig.inside.is_set)
    threading.Timer(0.05, rig.door.set).start()
    rig.cursor._revoked(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    assert rig.handled == [1]
    assert rig.client.commits[-1] == {("t", 0): 2}


def test_a_lost_partition_is_not_committed(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.lay_out(1)
    rig.turn_until(lambda: rig.handled == [1])
    rig.client.commits.clear()
    rig.cursor._lost(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    rig.cursor.turn()
    assert rig.client.commits == []
    assert Rebalanced(Lane.NORMAL, "lost", (("t", 0),)) in rig.events


def test_a_log_that_goes_back_has_its_books_opened_anew(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(5, 6)
    rig.turn_until(rig.inside.is_set)
    rig.lay_out(0, 1)
    rig.cursor.turn()
    rig.door.set()
    rig.turn_until(lambda: rig.client.commits[-1] == {("t", 0): 2})
    assert rig.handled == [5, 0, 1], "6 is not there any more"


def test_what_was_finished_before_says_nothing_of_a_log_that_goes_back(rig: Rig) -> None:
    rig.door.set()
    metadata, _ = Done(5, 8, ((5, 6),)).written()
    rig.cursor._assigned(rig.client, [TopicPartition("t", 0, 5, metadata)])  # type: ignore[arg-type]
    rig.lay_out(0, 5, 6, 7)
    rig.turn_until(lambda: rig.handled == [0, 5, 6, 7])


def test_a_completion_of_an_older_assignment_changes_nothing(rig: Rig) -> None:
    rig.assign(0)
    rig.lay_out(1)
    rig.turn_until(rig.inside.is_set)
    rig.cursor._lost(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    rig.assign(0)
    rig.client.commits.clear()
    rig.door.set()
    rig.turn_until(lambda: rig.handled == [1])
    rig.cursor.turn()
    assert rig.client.commits == []


def test_a_refused_commit_is_counted_and_tried_again(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.client.commit_error = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    rig.lay_out(1)
    rig.turn_until(lambda: CommitFailed(Lane.NORMAL, "REBALANCE_IN_PROGRESS") in rig.events)
    rig.client.commit_error = None
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 2}])


def test_a_commit_that_fails_later_for_one_partition_is_tried_again(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.lay_out(1)
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 2}])
    rig.client.commits.clear()
    rig.cursor.committed(KafkaError(KafkaError.UNKNOWN_MEMBER_ID), [TopicPartition("t", 0, 2)])
    rig.cursor.turn()
    assert rig.client.commits == [{("t", 0): 2}]


def test_an_error_of_the_client_is_told_and_the_loop_goes_on(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.client.log.append(RawMessage(topic="t", error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    rig.lay_out(1)
    rig.turn_until(lambda: rig.handled == [1])
    assert Troubled(Lane.NORMAL, "UNKNOWN_TOPIC_OR_PART") in rig.events


def test_a_fatal_error_ends_the_lane_although_it_does_not_call_itself_fatal(rig: Rig) -> None:
    told = KafkaError(KafkaError._FATAL, "Fatal error: fenced")
    assert not told.fatal()
    rig.client.log.append(RawMessage(topic="t", error=told))
    with pytest.raises(BrokerError, match=r"fenced .*give each its own"):
        rig.cursor.turn()


def test_a_coordinator_that_moves_is_asked_again_where_the_lane_stands(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances: list[bool] = []

    def start_at(places: list[TopicPartition], last: bool) -> Beginning:
        chances.append(last)
        if len(chances) < 3:
            raise BrokerError("not coordinator")
        return Beginning(places, [])

    monkeypatch.setattr(rig.parts, "start_at", start_at)
    rig.assign(0)
    assert chances == [False] * 3

    monkeypatch.setattr("shadowstream.kafka.cursor.reader.BEGIN_S", 0.0)
    rig.assign(0)
    assert chances[3:] == [True]


def test_a_shadow_lane_reads_nothing_before_it_is_committed_where_it_begins(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [TopicPartition("t", 0, 7)]
    monkeypatch.setattr(rig.parts, "start_at", lambda _, __: Beginning([], begun))
    rig.client.commit_error = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE)
    rig.client.failing = 2
    rig.cursor._assigned(rig.client, begun)  # type: ignore[arg-type]
    assert rig.client.assigned == [[{("t", 0): 7}]]

    monkeypatch.setattr("shadowstream.kafka.cursor.reader.BEGIN_S", 0.0)
    rig.client.failing = sys.maxsize
    rig.client.stands.clear()
    with pytest.raises(BrokerError, match="where it begins cannot be committed"):
        rig.cursor._assigned(rig.client, begun)  # type: ignore[arg-type]
    assert len(rig.client.assigned) == 1


def test_what_is_said_of_partitions_of_others_is_committed_and_not_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [TopicPartition("t", 0, 7), TopicPartition("t", 1, 8)]
    monkeypatch.setattr(rig.parts, "start_at", lambda _, __: Beginning([], begun))
    rig.cursor._assigned(rig.client, begun[:1])  # type: ignore[arg-type]
    assert rig.client.commits == [{("t", 0): 7, ("t", 1): 8}]
    assert rig.cursor._windows.keys() == {("t", 0)}


def test_a_stop_drains_commits_once_and_closes(rig: Rig) -> None:
    rig.lay_out(1, 2)
    thread = threading.Thread(target=rig.cursor.run)
    rig.assign(0)
    thread.start()
    rig.inside.wait()
    rig.cursor.stop()
    rig.door.set()
    thread.join(10)
    assert rig.client.closed
    assert rig.client.commits[-1] == {("t", 0): rig.handled[-1] + 1}
    assert not rig.cursor.hung


def test_partitions_that_are_given_to_a_lane_that_ends_are_taken_and_not_asked_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.parts, "start_at", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(rig.client, "close", lambda: rig.assign(0))
    rig.cursor.close()
    assert rig.client.assigned == [[]]
    assert rig.cursor._windows == {}


def test_a_last_commit_that_is_refused_is_tried_again(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    rig.lay_out(1)
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 2}])
    rig.lay_out(2)
    rig.client.commit_error = KafkaError(KafkaError.ILLEGAL_GENERATION)
    rig.turn_until(lambda: rig.handled == [1, 2])
    rig.client.failing = 2
    rig.cursor.close()
    assert rig.client.commits[-1] == {("t", 0): 3}


def test_a_stop_waits_for_a_handler_that_outlived_its_partition() -> None:
    rig = Rig(drain_s=0.05)
    rig.lay_out(1)
    rig.assign(0)
    rig.turn_until(rig.inside.is_set)
    rig.cursor._lost(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    rig.cursor.close()
    assert rig.client.closed
    assert rig.cursor.hung
    rig.door.set()


def finished(rig: Rig, *offsets: int) -> None:
    """Let these messages be handled, and turn once more."""
    rig.lay_out(*offsets)
    rig.turn_until(lambda: rig.handled[-len(offsets) :] == [*offsets] and rig.parts.crews["t"].waiting() == 0)
    rig.cursor.turn()


def said(rig: Rig, *offsets: int) -> None:
    """Let these be handled, committed and answered."""
    finished(rig, *offsets)
    rig.turn_until(lambda: rig.client.commits[-1] == {("t", 0): offsets[-1] + 1} and not rig.client.unanswered)


def left_unanswered(rig: Rig) -> None:
    """Let 2 and 3 be finished, and the commit of the first of them lie unanswered."""
    rig.client.answers = False
    finished(rig, 2)
    finished(rig, 3)
    assert rig.client.commits[-1] == {("t", 0): 3}


def test_there_is_one_commit_at_a_time_and_another_when_no_answer_comes() -> None:
    now = [100.0]
    rig = Rig(clock=Clock(monotonic=lambda: now[0]))
    rig.door.set()
    rig.assign(0)

    finished(rig, 1)
    rig.turn_until(lambda: rig.client.commits[-1:] == [{("t", 0): 2}])
    rig.cursor.turn()
    rig.client.commits.clear()
    rig.client.answers = False
    finished(rig, 2)
    finished(rig, 3)
    assert rig.client.commits == [{("t", 0): 3}]
    rig.client.answer()
    rig.cursor.turn()
    assert rig.client.commits[1:] == [{("t", 0): 4}]
    finished(rig, 4)
    assert len(rig.client.commits) == 2
    now[0] += 60
    rig.cursor.turn()
    assert len(rig.client.commits) == 2, "the client may still say the one before"
    now[0] += 6
    rig.cursor.turn()
    assert rig.client.commits[2:] == [{("t", 0): 5}]
    rig.client.answers = True
    rig.cursor.close()


def test_no_last_commit_overtakes_one_that_is_not_answered() -> None:
    rig = Rig(drain_s=0.2)
    rig.door.set()
    rig.assign(0)
    said(rig, 1)
    rig.client.stuck = True
    left_unanswered(rig)
    rig.cursor._revoked(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    assert rig.client.commits[-1] == {("t", 0): 3}, "4 would be overtaken by 3"
    rig.cursor.close()


def test_a_last_commit_follows_one_that_is_not_answered_and_seen_to_be_done(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    said(rig, 1)
    left_unanswered(rig)
    rig.cursor._revoked(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    assert rig.client.commits[-1] == {("t", 0): 4}


def test_a_last_commit_waits_until_the_client_says_nothing_again(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    said(rig, 1)
    left_unanswered(rig)
    asked, again = rig.client.committed, {("t", 0): 3}
    questions: list[float] = []

    def committed(places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        questions.append(time.monotonic())
        if again not in rig.client.commits and questions[-1] - questions[0] > 1.2:
            # The link broke before the answer came; as late as it may be, the client says it once more.
            rig.client.commits.append(again)
        return asked(places, timeout)

    rig.client.commits.clear()
    rig.client.committed = committed  # type: ignore[method-assign]
    rig.cursor._revoked(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    assert rig.client.commits == [again, {("t", 0): 4}]


def test_a_stop_hears_the_answer_to_the_last_commit_and_says_what_was_refused_again(rig: Rig) -> None:
    rig.door.set()
    rig.assign(0)
    said(rig, 1)
    rig.client.stuck = True
    left_unanswered(rig)
    rig.client.stuck, rig.client.answers = False, True
    refused = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    rig.client.on_commit = lambda _, places: rig.cursor.committed(refused, places)
    rig.cursor.close()
    assert rig.client.commits[-1] == {("t", 0): 4}


def test_a_revoke_ends_in_time_although_no_commit_is_answered() -> None:
    now = [100.0]

    def passes(seconds: float) -> None:
        now[0] += seconds

    rig = Rig(clock=Clock(monotonic=lambda: now[0]), drain_s=5.0)
    rig.door.set()
    rig.assign(0)
    said(rig, 1)
    rig.client.silent = passes
    rig.lay_out(2)
    rig.turn_until(lambda: rig.handled == [1, 2])
    rig.cursor._revoked(rig.client, [TopicPartition("t", 0)])  # type: ignore[arg-type]
    assert now[0] <= 100.0 + 5.0 + 0.2
    assert rig.client.commits[-1] == {("t", 0): 3}, "it is asked for all the same"


def test_close_ends_although_a_handler_never_returns() -> None:
    rig = Rig(drain_s=0.05)
    rig.lay_out(1)
    rig.assign(0)
    thread = threading.Thread(target=rig.cursor.run)
    thread.start()
    rig.inside.wait()
    rig.cursor.stop()
    thread.join(10)
    assert rig.client.closed
    assert rig.cursor.hung
    assert all(offsets == {("t", 0): 1} for offsets in rig.client.commits)
    rig.door.set()


def test_an_error_of_ours_in_a_strand_ends_the_lane_instead_of_losing_a_message(rig: Rig) -> None:
    rig.parts.ended(RuntimeError("a bug"))
    with pytest.raises(BrokerError, match="a bug"):
        rig.cursor.turn()
