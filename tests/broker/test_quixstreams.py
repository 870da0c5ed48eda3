"""Quix Streams on a real broker, in the environment that its own pins ask for: an application for each lane."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from benchmarks.peers.environments import interpreter
from benchmarks.peers.sides import SIDES
from shadowstream.headers import MarkReader
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, REPO, eventually, headers_of, text_of
from tests.broker.service import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

RUN = "fcst-1111"
PARK = {"shadow": {"on_limit": "park"}}


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of that environment, which is made once and kept."""
    return interpreter(SIDES["quixstreams"])


class Quix:
    """One lane's application, inside a ``with`` block."""

    def __init__(self, python: Path, rig: Rig, lane: Lane, topic: str, out: str) -> None:
        config = str(rig.folder / "shadowstream.yaml")
        self._process = subprocess.Popen(
            [str(python), "-m", "tests.broker.quix_app", config, lane.value, topic, out],
            cwd=REPO,
            env=surroundings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told: list[tuple[str, Any]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told.append(tuple(json.loads(line)))

    def told(self, what: str) -> list[Any]:
        return [each for kind, each in list(self._told) if kind == what]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended(stop=True)

    def ended(self, *, stop: bool = False) -> int:
        """Wait until it has ended, by itself unless it is to be stopped; return its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if stop:
            self._process.stdin.close()
        code = self._process.wait(DEADLINE_S)
        self._thread.join()
        self._process.stdin.close()
        self._process.stdout.close()
        return code


def test_each_lane_handles_its_own_and_sends_it_on_in_its_lane(python: Path, rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    for number in range(3):
        rig.send_both(topic, json.dumps({"n": number}))
    rig.settings({topic: PARK, out: PARK})

    def handled(lane: Lane, run: str | None) -> None:
        expected = [[{"n": number}, run] for number in range(3)]
        with Quix(python, rig, lane, topic, out) as app:
            eventually(lambda: app.told("handled") == expected, f"the {lane} lane handles its own")
            eventually(lambda: rig.caught_up(lane, topic), "and is done with all of it")
        assert app.told("outcome").count({"handled": 1}) == 3

    handled(Lane.NORMAL, None)
    handled(Lane.SHADOW, RUN)
    reader = MarkReader()
    marks = [reader.read(headers_of(each), time.time()).mark for each in rig.read(out)]
    assert [(mark.run, mark.hop) for mark in marks if mark is not None] == [(RUN, 1)] * 3
    assert marks.count(None) == 3


def test_what_is_set_aside_is_the_message_as_it_was_written(python: Path, rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    spaced = '{ "n" :  1 }'
    rig.send(topic, [spaced], [("x-shadow", b"junk")], key="k")
    rig.send(topic, [spaced, spaced], MARKED, key="k")
    rig.settings({topic: PARK, out: PARK}, rate_limit={f"shadow.{topic}": {"hard": "1/h", "burst": 1}})
    with Quix(python, rig, Lane.SHADOW, topic, out) as app:
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow is done with all of it")
        assert app.told("handled") == [[{"n": 1}, RUN]]
    for beside, reason in ((f"{topic}.quarantine", b"malformed"), (f"{topic}.shadow.parked", b"refused")):
        (copy,) = rig.read(beside)
        assert (text_of(copy), copy.key()) == (spaced, b"k")
        assert dict(headers_of(copy))["shadowstream-reason"] == reason


def test_a_lane_that_would_have_to_wait_is_refused(python: Path, rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.settings({topic: {}, out: PARK})
    app = Quix(python, rig, Lane.SHADOW, topic, out)
    assert app.ended() == 0
    (told,) = app.told("refused")
    assert "on_limit: park" in told


def test_a_handler_that_fails_is_told_to_the_gate_and_ends_the_application_as_ever(python: Path, rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    rig.send(topic, [json.dumps({"fail": True})], MARKED)
    rig.settings({topic: PARK, out: PARK})
    app = Quix(python, rig, Lane.SHADOW, topic, out)
    assert app.ended() != 0
    assert app.told("outcome") == [{"failed": 1}]
