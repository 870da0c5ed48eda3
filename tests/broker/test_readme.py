"""What the README shows is run as it stands there: the five-line wrap on the configuration by example."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import shadowstream as ss
from shadowstream.kafka.outlets import side_topics
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, KEY_VARIABLE, REPO, SECRET, Rig, eventually, headers_of, text_of
from tests.broker.service import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from containers.kafka import KafkaContainer

CLAIMED, DISPATCHED = "voucher.claimed", "voucher.dispatched"


def block(language: str, containing: str) -> str:
    """Return the README's one block of a language that contains a text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (REPO / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [text for each, text in blocks if each == language and containing in text]
    return str(found)


@pytest.fixture
def rig(own_kafka: KafkaContainer, unique: Callable[[str], str], tmp_path: Path) -> Iterator[Rig]:
    """A broker of its own: the README's topics have names that any other test might use."""
    rig = Rig(own_kafka, unique, tmp_path)
    sides = {place: 1 for lane in Lane for place in side_topics(CLAIMED, lane).values()}
    own_kafka.create_topics({CLAIMED: 1, DISPATCHED: 1, **sides})
    (tmp_path / "shadowstream.yaml").write_text(block("yaml", "service: uservoucher"))
    (tmp_path / "app.py").write_text(block("python", "worker.run()"))
    yield rig
    rig.close()


@pytest.fixture
def surrounding(rig: Rig) -> dict[str, str]:
    """The environment of a process that finds this broker and the key."""
    return surroundings() | {"SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS": rig.bootstrap}


@contextmanager
def running(folder: Path, surrounding: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the README's program."""
    process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=dict(surrounding))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_five_line_wrap_handles_both_lanes_on_the_configuration_by_example(
    rig: Rig, surrounding: dict[str, str]
) -> None:
    settings = ss.load(
        rig.folder / "shadowstream.yaml",
        environ={KEY_VARIABLE: SECRET, "SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS": rig.bootstrap},
    )
    producer = ss.Producer(settings)
    with running(rig.folder, surrounding) as process:
        producer.produce(CLAIMED, '{"voucher_id": "v1"}', "v1")
        with ss.entered(ss.Mark(run="fcst-1111")):
            producer.produce(CLAIMED, '{"voucher_id": "v1"}', "v1")
        assert producer.flush(DEADLINE_S) == 0
        eventually(lambda: rig.ends(DISPATCHED) == {0: 2}, "one output of each lane")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0

    marked = {("x-shadow" in dict(headers_of(message))): text_of(message) for message in rig.read(DISPATCHED)}
    assert marked == dict.fromkeys((False, True), '{"voucher_id": "v1"}')
    for group in ("uservoucher", "uservoucher.shadow"):
        assert rig.committed(group, CLAIMED) == {0: 2}


def test_each_command_about_the_configuration_does_what_is_said(rig: Rig, surrounding: dict[str, str]) -> None:
    lines = [line.partition("#")[0] for line in block("", "shadowstream config check").splitlines()]
    said = {}
    for line in filter(None, map(str.strip, lines)):
        command, *arguments = shlex.split(line)
        assert command == "shadowstream"
        ended = subprocess.run(
            [sys.executable, "-m", "shadowstream", *arguments],
            cwd=rig.folder,
            env=surrounding,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        said[arguments[1]] = ended.stdout
    assert said["check"].endswith("nothing wrong\n")
    assert "failure_rate = 0.3  (shadow.voucher.dispatch failure_rate, file)" in said["explain"]
    assert "half_open = 3  (voucher.dispatch half_open, file)" in said["explain"]
