"""A configuration that changes while it is in use: taken whole or not at all, by each lane for itself."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from shadowstream.config import LaneSettings, MarkSettings, Settings
from shadowstream.config.beside import Beside
from shadowstream.config.live import Watcher
from shadowstream.config.live.watch import LOOK_S
from shadowstream.errors import SetupError
from shadowstream.lane import Lane
from tests.lanes import lane_of
from tests.unit.config.conftest import ENOUGH
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.config.conftest import Load

NORMAL, SHADOW = Lane.NORMAL, Lane.SHADOW
FIRST = "rate_limit: {claim: {hard: 10/s, shadow_hard: 1/s}}\n"
SECOND = "rate_limit: {claim: {hard: 20/s, shadow_hard: 2/s}}\n"


class Follower:
    """A process with both lanes, and its watcher."""

    def __init__(self, settings: Settings, lanes: tuple[Lane, ...] = tuple(Lane)) -> None:
        self.settings: dict[Lane, LaneSettings] = {}
        self.told: list[tuple[Lane, str, int, bool]] = []
        self.refuses = ""
        self.watcher = Watcher(settings, dict.fromkeys(lanes, self._adopt), lambda *told: self.told.append(told))

    def _adopt(self, settings: LaneSettings) -> None:
        if self.refuses:
            raise SetupError(self.refuses)
        self.settings[settings.lane] = settings

    def look(self, times: int = 2) -> dict[Lane, float | None]:
        """Look some times; return the hard limits that were taken."""
        for _ in range(times):
            self.watcher.look()
        rules = {lane: settings.rate("claim") for lane, settings in self.settings.items()}
        return {lane: rule and rule.hard_per_s for lane, rule in rules.items()}


@pytest.fixture
def follower(loaded: Load) -> Callable[..., Follower]:
    return lambda text=FIRST, **more: Follower(loaded(text), **more)


def test_a_change_is_taken_by_both_lanes_and_told_with_its_version(follower, written, caplog):
    one = follower()
    assert one.look() == {}
    written(SECOND)
    with caplog.at_level(logging.WARNING):
        assert one.look() == {NORMAL: 20.0, SHADOW: 2.0}
    (first, version, *_), second = one.told
    assert one.told == [(NORMAL, version, 2, True), (SHADOW, version, 2, True)]
    assert (first, second[0], len(version)) == (NORMAL, SHADOW, 12)
    assert "config_changed lane=normal" in caplog.text
    assert "rate_limit claim hard: 10/s -> 20/s" in caplog.text


def test_what_did_not_change_is_not_told(follower, written):
    one = follower()
    written(FIRST)
    one.look(5)
    written(SECOND)
    one.look(5)
    assert len(one.told) == 2


def test_a_file_that_is_being_written_is_not_taken(follower, written):
    one = follower()
    whole = ENOUGH + SECOND + "worker: {batch: 7}\n"
    for end in range(len(ENOUGH), len(whole), 9):
        written(whole[:end], whole=True)
        assert one.look(1) == {}
    written(whole, whole=True)
    assert one.look(1) == {}
    assert one.look(1) == {NORMAL: 20.0, SHADOW: 2.0}
    assert all(taken for *_, taken in one.told)


@pytest.mark.parametrize("content", [b"", b"\n", b"service: s", b"rate_limit: [", b"\xff\xfe\x00", b"- a\n- b\n"])
def test_a_file_that_is_wrong_leaves_the_last_good_one_in_force(follower, tmp_path, content, caplog):
    one = follower()
    (tmp_path / "c.yaml").write_bytes(content)
    assert one.look() == {}
    assert [taken for *_, taken in one.told] == [False, False]
    assert "config_refused" in caplog.text


def test_a_file_that_is_gone_leaves_the_last_good_one_in_force(follower, written, tmp_path):
    one = follower()
    (tmp_path / "c.yaml").unlink()
    assert one.look() == {}
    assert [taken for *_, taken in one.told] == [False, False]
    written(SECOND)
    assert one.look() == {NORMAL: 20.0, SHADOW: 2.0}


def test_what_is_wrong_is_told_once(follower, written, caplog):
    one = follower()
    written("rate_limit: {claim: {hard: much}}\n")
    one.look(10)
    assert len(one.told) == 2
    assert caplog.text.count("config_refused") == 2
    assert "c.yaml:3" in caplog.text


def test_going_back_from_what_was_wrong_is_a_change_of_nothing(follower, written):
    one = follower()
    written("rate_limit: {claim: {hard: much}}\n")
    one.look()
    written(FIRST)
    assert one.look() == {NORMAL: 10.0, SHADOW: 1.0}
    assert [(number, taken) for *_, number, taken in one.told] == [(1, False), (1, False), (2, True), (2, True)]


def test_a_mistake_of_shadows_does_not_keep_normal_from_its_change(follower, written):
    one = follower()
    written("rate_limit: {claim: {hard: 20/s, shadow_hard: much}}\n")
    assert one.look() == {NORMAL: 20.0}
    written("rate_limit: {claim: {hard: 30/s, shadow_hard: 3/s}}\n")
    assert one.look() == {NORMAL: 30.0, SHADOW: 3.0}


def test_a_mistake_of_normals_keeps_both(follower, written):
    one = follower()
    written("rate_limit: {claim: {hard: much, shadow_hard: 2/s}}\n")
    assert one.look() == {}


def test_a_lane_may_refuse_what_its_handlers_cannot_do(follower, written, caplog):
    one = follower()
    one.refuses = "topic 't': a batch cannot"
    written(SECOND)
    assert one.look() == {}
    assert [taken for *_, taken in one.told] == [False, False]
    assert "a batch cannot" in caplog.text


def test_what_is_gone_by_from_the_start_only_is_said_to_need_a_restart(follower, written, caplog):
    one = follower(FIRST + "resilience: {claim: {timeout: 1s}}\n")
    written(SECOND + "worker: {batch: 7}\nresilience: {claim: {timeout: 2s}}\n")
    with caplog.at_level(logging.WARNING):
        one.look()
    line = next(record.message for record in caplog.records if "lane=normal" in record.message)
    taken, waiting = line.split("needs a restart")
    assert "rate_limit claim hard" in taken
    assert "worker batch" in waiting
    assert "resilience claim timeout" in waiting
    assert "worker" not in taken


def test_a_link_that_points_to_another_file_is_a_change(tmp_path: Path, monkeypatch, written):
    # As Kubernetes mounts config maps: a link to a directory that is swapped, with times of change that say nothing.
    written()
    for name, text in (("v1", FIRST), ("v2", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.yaml").write_text(ENOUGH + text)
        os.utime(tmp_path / name / "c.yaml", (0, 0))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "c.yaml").unlink()
    (tmp_path / "c.yaml").symlink_to("data/c.yaml")
    from shadowstream.config import load

    one = Follower(load(tmp_path / "c.yaml", environ={}))
    assert one.look() == {}
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").rename(tmp_path / "data")
    assert one.look() == {NORMAL: 20.0, SHADOW: 2.0}


def test_a_change_between_loading_and_looking_is_seen(loaded, written):
    settings = loaded(FIRST)
    written(SECOND)
    assert Follower(settings).look() == {NORMAL: 20.0, SHADOW: 2.0}


def test_the_environment_stays_above_the_file(loaded, written):
    one = Follower(loaded(FIRST, {"SHADOWSTREAM__SHADOW__RATE_LIMIT__CLAIM__HARD": "7/s"}))
    written(SECOND)
    assert one.look() == {NORMAL: 20.0, SHADOW: 7.0}


def test_settings_built_by_hand_never_change():
    one = Follower(Settings("s", MarkSettings(), lane_of(NORMAL), lane_of(SHADOW)))
    with one.watcher:
        assert one.look() == {}
    assert one.told == []


def test_the_thread_tells_what_it_begins_with_and_takes_a_change_by_itself(follower, written):
    one = follower()
    with one.watcher:
        assert [(lane, number, taken) for lane, _, number, taken in one.told] == [(NORMAL, 1, True), (SHADOW, 1, True)]
        written(SECOND)
        until(lambda: len(one.settings) == 2)
    assert LOOK_S <= 1.0


def test_a_look_that_fails_is_not_the_last_one(follower, written, monkeypatch, caplog):
    one = follower()
    looks = iter([RuntimeError("no"), None])
    look = one.watcher.look

    def fails_once() -> None:
        if (error := next(looks, None)) is not None:
            raise error
        look()

    monkeypatch.setattr(one.watcher, "look", fails_once)
    with one.watcher:
        written(SECOND)
        until(lambda: len(one.settings) == 2)
    assert "config_watch_failed" in caplog.text


class Looks(Beside):
    """Something that goes on beside: it counts its beginnings."""

    def __init__(self) -> None:
        super().__init__("looks")
        self.begun = 0

    def _go_on(self) -> None:
        self.begun += 1
        self._ended.wait()


def test_what_goes_on_beside_begins_once_and_not_again_after_its_end():
    one = Looks()
    with one:
        one.start()
        until(lambda: one.begun)
    one.start()
    assert one.begun == 1


def test_what_goes_on_beside_goes_on_in_a_child_too():
    with Looks() as one:
        until(lambda: one.begun)
        child = os.fork()
        if not child:
            try:
                one.start()
                until(lambda: one.begun == 2)
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert one.begun == 1
