"""``shadowstream trace`` on a real broker, through real workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import shadowstream as ss
from shadowstream.cli import main
from tests.broker.rig import KEY_VARIABLE, SECRET, SIGNED

if TYPE_CHECKING:
    import pytest

    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]


def test_a_chain_that_carries_its_marks_is_whole_and_needs_no_lease_of_ones_own(
    rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    first, second, third = rig.topics("first", "second", "third")
    rig.begin(first, second)
    sections = {"mark": SIGNED, "fleet": {"url": redis_url}, "service": rig.group}
    settings = rig.settings({first: {"route": "topic"}, second: {}}, **sections)
    worker, producer = rig.worker(settings), ss.Producer(settings)

    def carried(source: str, step: str) -> None:
        @worker.handles(source)
        def handle(message: ss.Message) -> None:
            producer.produce(step, message.value(), key=message.key())

    carried(first, second)
    carried(second, third)
    arguments = ["--chain", f"{first} > {second} > {third}", "--config", str(rig.folder / "shadowstream.yaml")]
    with worker:
        code = main(["trace", *arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [hop["fate"] for hop in told["hops"]] == ["carried"] * 3
    assert (code, told["whole"]) == (0, True)
    assert [hop["place"] for hop in told["hops"]] == [f"shadow.{first}", second, third]
    assert [hop["hop"] for hop in told["hops"]] == [1, 2, 3]
    # Nothing is left of it: the run cannot wake up again.
    assert main(["runs", "--config", str(rig.folder / "shadowstream.yaml")]) == 1


def test_a_probe_that_is_refused_is_found_where_it_was_set_aside(rig: Rig, capsys) -> None:
    first, second = rig.topics("first", "second")
    rig.begin(first)
    topics = {first: {"shadow": {"on_limit": "park"}}, second: {}}
    settings = rig.settings(topics, rate_limit={f"shadow.{first}": {"hard": 0}})
    worker = rig.worker(settings)

    @worker.handles(first)
    def handle(message: ss.Message) -> None:
        pass

    arguments = ["--chain", f"{first} > {second}", "--config", str(rig.folder / "shadowstream.yaml"), "--wait", "8"]
    with worker:
        assert main(["trace", *arguments]) == 1
    told = capsys.readouterr().out
    assert f"it ended in {first}.shadow.parked (refused)" in told
    assert "never reached" in told


def test_a_topic_that_is_not_there_is_said(rig: Rig, capsys) -> None:
    rig.settings({})
    config = ["--config", str(rig.folder / "shadowstream.yaml")]
    assert main(["trace", "--chain", "nowhere > nothing", *config]) == 2
    assert "the cluster has no nowhere, nothing" in capsys.readouterr().err
    topic = rig.topic()
    assert main(["trace", "--chain", topic, "--value", "no place for a word", *config]) == 2
    assert "{probe}" in capsys.readouterr().err
