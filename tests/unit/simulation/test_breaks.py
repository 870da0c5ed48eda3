"""Engines that are broken on purpose, each in one way: the simulation must catch every one of them."""

from __future__ import annotations

from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pytest

from shadowstream.kafka.cursor import Cursor
from shadowstream.kafka.cursor.commits import Commits
from shadowstream.kafka.cursor.helm import Helm
from shadowstream.kafka.engine.attempt import Attempts
from shadowstream.kafka.offsets import Window
from shadowstream.kafka.strands.threads import Trip
from shadowstream.lane import current, entered
from tests.unit.simulation.oracle import BrokenLawError
from tests.unit.simulation.play import PROTOCOLS, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest import MonkeyPatch  # noqa: PT013 - a type

# Against a history that never ends, on a machine that does much else.
pytestmark = pytest.mark.timeout(900)

HISTORIES = 500


def commit_past_an_unfinished_message(monkeypatch: MonkeyPatch) -> None:
    """Take all that was read as finished."""
    monkeypatch.setattr(Window, "_unfinished", lambda _: [])


def say_of_an_unfinished_message_that_it_is_done(monkeypatch: MonkeyPatch) -> None:
    """Write into a commit's metadata that all above its offset is finished."""
    unfinished = Window._unfinished
    monkeypatch.setattr(Window, "_unfinished", lambda window: unfinished(window)[:1])


def commit_on_lost(monkeypatch: MonkeyPatch) -> None:
    """Commit what is finished in partitions that somebody else has already."""
    lost = Cursor._lost

    def commit_and_lose(cursor: Cursor, consumer: Any, partitions: Any) -> None:
        cursor._commits.commit([(each.topic, each.partition) for each in partitions])
        lost(cursor, consumer, partitions)

    monkeypatch.setattr(Cursor, "_lost", commit_and_lose)


def let_a_last_commit_overtake(monkeypatch: MonkeyPatch) -> None:
    """Commit the last of a partition although the commit before it may still come."""
    monkeypatch.setattr(Commits, "_seen", lambda *_: True)


def accept_a_late_completion_of_an_old_epoch(monkeypatch: MonkeyPatch) -> None:
    """Keep the books of partitions that are gone, and commit what finishes in them afterwards."""
    forget, tick = Commits.forget, Commits.tick
    kept: dict[Commits, dict[Any, Window]] = {}

    def keep(commits: Commits, places: Any) -> None:
        places = list(places)
        kept.setdefault(commits, {}).update({each: commits.windows[each] for each in places if each in commits.windows})
        forget(commits, places)

    def tick_old_ones_too(commits: Commits, now: float) -> None:
        ours = commits.windows
        commits.windows = {**kept.get(commits, {}), **ours}
        commits.commit(kept.get(commits, {}).keys() - ours.keys())
        commits.windows = ours
        tick(commits, now)

    monkeypatch.setattr(Commits, "forget", keep)
    monkeypatch.setattr(Commits, "tick", tick_old_ones_too)


def leave_the_lane_behind_in_a_thread(monkeypatch: MonkeyPatch) -> None:
    """Enter a message's lane once for each thread, in the thread's own context, and never leave it."""
    run = Attempts._run

    def run_in_the_first_one_s_lane(attempts: Attempts, work: Any, tally: Any) -> Any:
        if current() is None:
            entered(work.mark).__enter__()
        return run(attempts, work, tally)

    monkeypatch.setattr(Attempts, "_run_in_lane", run_in_the_first_one_s_lane)
    began = Trip.__init__

    def begin_in_the_thread_s_context(trip: Trip, *parts: Any) -> None:
        began(trip, *parts)
        trip.context = THREAD_S

    monkeypatch.setattr(Trip, "__init__", begin_in_the_thread_s_context)


def lose_the_lane_on_the_way_to_a_thread(monkeypatch: MonkeyPatch) -> None:
    """Run a shadow handler without its mark."""
    monkeypatch.setattr(Attempts, "_run_in_lane", Attempts._run)


def leave_the_helm_to_whoever_has_it(monkeypatch: MonkeyPatch) -> None:
    """Wait for a hand that carries as long as it likes, and poll no more."""
    monkeypatch.setattr("shadowstream.kafka.cursor.helm.RELIEF_S", inf)


def poll_on_though_relieved(monkeypatch: MonkeyPatch) -> None:
    """Let a hand poll after the owner took the helm back."""
    monkeypatch.setattr(Helm, "next", lambda helm, *, free: helm._polled() if free else [])


class Same:
    """A context that everybody shares: what is set in it stays set."""

    def run(self, call: Callable[..., Any], *given: Any) -> Any:
        return call(*given)


THREAD_S: Final[Any] = Same()

BREAKS = MappingProxyType(
    {
        commit_past_an_unfinished_message: "law 8",
        say_of_an_unfinished_message_that_it_is_done: "law 8",
        commit_on_lost: "law 9",
        let_a_last_commit_overtake: "law 8",
        accept_a_late_completion_of_an_old_epoch: "law 8",
        leave_the_lane_behind_in_a_thread: "law 2",
        lose_the_lane_on_the_way_to_a_thread: "law 2",
        leave_the_helm_to_whoever_has_it: "law 11",
        poll_on_though_relieved: "two poll at once",
    }
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("broken", BREAKS, ids=lambda each: each.__name__)
def test_an_engine_that_is_broken_is_caught(
    broken: Callable[[MonkeyPatch], None], protocol: str, monkeypatch: MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(BrokenLawError, match=BREAKS[broken]):
        play(protocol, HISTORIES)
