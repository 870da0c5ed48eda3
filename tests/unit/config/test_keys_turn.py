"""Signing keys from files, and what happens when they come, go or change while they are in use."""

from __future__ import annotations

import gc
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from shadowstream.config.model import SigningKey
from shadowstream.config.signing import KeyWatch
from shadowstream.headers import Keyring, MarkReader, MarkWriter
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = ss.Mark(run="r1")
NOW = 1_795_480_000.0


class Folder:
    """A configuration whose keys are files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "shadowstream.yaml"

    def secret(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def write(self, *ids: str, **mark: Any) -> None:
        keys = [{"id": each, "secret_file": each} for each in ids]
        kafka = {"bootstrap.servers": "localhost:1", "group.id": "g"}
        document = {"service": "s", "kafka": kafka, "mark": {"trust": "signed", "keys": keys, **mark}}
        self.path.write_text(json.dumps(document))

    def load(self) -> ss.Settings:
        return ss.load(self.path, environ={}, strict=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.secret("k1", "the first\n")
    made.secret("k2", "the second\n")
    made.write("k1")
    return made


def kind(reader: MarkReader, value: bytes) -> str:
    reading = reader.read_value(value, NOW)
    return reading.reason or reading.kind.value


def by(key_id: str, secret: bytes) -> bytes:
    return MarkWriter(keys=[(key_id, secret)]).onward(RUN, NOW)


# From a file


def test_a_secret_is_the_files_text_without_its_line_end(folder: Folder) -> None:
    reader = MarkReader.of(folder.load().mark)
    assert kind(reader, by("k1", b"the first")) == "shadow"
    assert kind(reader, by("k1", b"the first\n")) == "bad_signature"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"id": "k1", "secret_file": "gone"}, r"mark keys 1 secret_file: cannot be read \(No such file"),
        ({"id": "k1", "secret_file": "empty"}, "secret_file: is empty"),
        ({"id": "k1", "secret_file": "."}, r"secret_file: cannot be read \(Is a directory"),
        ({"id": "k1", "secret_file": 5}, "secret_file: does not name a file"),
        ({"id": "k1", "secret_file": "k1", "secret_env": "A"}, "is beside secret_env"),
        ({"id": "k1", "secret": "x"}, "mark keys 1 secret: is not a field"),
    ],
)
def test_a_secret_that_is_not_there_is_said_and_never_shown(folder: Folder, key: dict[str, Any], told: str) -> None:
    folder.secret("empty", "\n")
    folder.write("k1", keys=[key])
    with pytest.raises(ss.ConfigError, match=told) as raised:
        folder.load()
    assert "the first" not in str(raised.value)


# Turned by hand


def test_a_key_that_is_gone_is_believed_no_more_though_its_marks_were_verified_before() -> None:
    keyring = Keyring([("k1", b"one"), ("k2", b"two")])
    reader, value = MarkReader(keys=keyring, signed=True), by("k1", b"one")
    assert kind(reader, value) == "shadow"
    keyring.turn([("k2", b"two")])
    assert kind(reader, value) == "unknown_key"
    assert kind(reader, by("k2", b"two")) == "shadow"


def test_a_key_that_came_is_believed_and_signs_when_it_is_the_first() -> None:
    keyring = Keyring([("k1", b"one")])
    reader, writer = MarkReader(keys=keyring, signed=True), MarkWriter(keys=keyring)
    assert kind(reader, by("k2", b"two")) == "unknown_key"
    keyring.turn([("k1", b"one"), ("k2", b"two")])
    assert kind(reader, by("k2", b"two")) == "shadow"
    assert b";kid=k1;" in writer.onward(RUN, NOW)
    keyring.turn([("k2", b"two"), ("k1", b"one")])
    assert b";kid=k2;" in writer.onward(RUN, NOW)


def test_a_key_with_another_secret_is_another_key() -> None:
    keyring = Keyring([("k1", b"one")])
    reader, value = MarkReader(keys=keyring, signed=True), by("k1", b"one")
    assert kind(reader, value) == "shadow"
    keyring.turn([("k1", b"another")])
    assert kind(reader, value) == "bad_signature"


def test_a_ring_that_cannot_be_used_stays_as_it_is() -> None:
    keyring = Keyring([("k1", b"one")])
    with pytest.raises(ss.ShadowstreamError, match="k2"):
        keyring.turn([("k1", b"one"), ("k2", b"")])
    assert kind(MarkReader(keys=keyring, signed=True), by("k1", b"one")) == "shadow"


def test_readers_on_many_threads_never_mix_two_rings() -> None:
    rings = [[("k1", b"one")], [("k2", b"two")]]
    keyring, values = Keyring(rings[0]), (by("k1", b"one"), by("k2", b"two"))
    reader, ended, seen = MarkReader(keys=keyring, signed=True), threading.Event(), set()

    def read() -> None:
        while not ended.is_set():
            seen.update(kind(reader, value) for value in values)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        keyring.turn(rings[number % 2])
    ended.set()
    for thread in threads:
        thread.join()
    assert seen <= {"shadow", "unknown_key"}
    keyring.turn(rings[0])
    assert [kind(reader, value) for value in values] == ["shadow", "unknown_key"]


# Followed


class Looked:
    """A watch that looks when it is told to."""

    def __init__(self, folder: Folder) -> None:
        self.settings = folder.load()
        watch = getattr(self.settings.mark.keyring.on_use, "__self__", None)
        assert isinstance(watch, KeyWatch)
        self.watch = watch
        self.reader = MarkReader.of(self.settings.mark)
        # By hand from here on.
        self.settings.mark.keyring.on_use = None

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.watch.look()

    def believes(self) -> list[str]:
        secrets = {"k1": b"the first", "k2": b"the second", "k3": b"the third"}
        return [key_id for key_id, secret in secrets.items() if kind(self.reader, by(key_id, secret)) == "shadow"]


@pytest.fixture
def looked(folder: Folder) -> Looked:
    return Looked(folder)


def test_a_key_that_is_written_into_the_configuration_is_gone_by(folder: Folder, looked: Looked) -> None:
    assert looked.believes() == ["k1"]
    folder.write("k1", "k2")
    looked.look()
    assert looked.believes() == ["k1", "k2"]
    folder.write("k2")
    looked.look()
    assert looked.believes() == ["k2"]


def test_a_secret_that_changes_is_gone_by_and_so_is_one_that_changes_later(folder: Folder, looked: Looked) -> None:
    folder.write("k1", "k2")
    looked.look()
    folder.secret("k2", "the third")
    looked.look()
    assert kind(looked.reader, by("k2", b"the third")) == "shadow"
    assert looked.believes() == ["k1"]


def test_a_secret_that_is_being_written_is_not_gone_by(folder: Folder, looked: Looked) -> None:
    folder.secret("k1", "the thi")
    looked.look(1)
    assert looked.believes() == ["k1"]
    folder.secret("k1", "the third")
    looked.look(1)
    assert looked.believes() == ["k1"]
    looked.look(1)
    assert kind(looked.reader, by("k1", b"the third")) == "shadow"


@pytest.mark.parametrize("broken", ["", "{", "mark: {keys: []}", '{"service": "s"}'])
def test_the_last_good_keys_stay_when_what_is_found_is_wrong(
    folder: Folder, looked: Looked, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.path.write_text(broken)
    looked.look(6)
    assert looked.believes() == ["k1"]
    assert [record.message.split()[0] for record in caplog.records] == ["keys_refused:"]
    folder.write("k2")
    looked.look()
    assert looked.believes() == ["k2"]


def test_a_secret_that_is_taken_away_keeps_the_last_good_keys(folder: Folder, looked: Looked, caplog) -> None:
    (folder.folder / "k1").unlink()
    looked.look(4)
    assert looked.believes() == ["k1"]
    assert "mark keys 1 secret_file: cannot be read" in caplog.text
    assert "the first" not in caplog.text


def test_what_changes_is_logged_by_id_and_never_by_secret(folder: Folder, looked: Looked, caplog) -> None:
    caplog.set_level(logging.INFO)
    folder.write("k2", "k1")
    looked.look()
    assert [record.message for record in caplog.records] == ["keys_changed signing=k2 verifying=k2,k1"]


def test_it_looks_by_itself_from_the_first_use_on_until_nobody_has_the_ring(folder: Folder) -> None:
    def watching() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "key-watch" and thread not in before]

    def used() -> None:
        reader = MarkReader.of(settings[0].mark)
        assert kind(reader, by("k1", b"the first")) == "shadow"
        assert len(watching()) == 1
        folder.write("k2")
        until(lambda: kind(reader, by("k2", b"the second")) == "shadow")

    before, settings = threading.enumerate(), [folder.load()]
    assert watching() == []
    used()
    assert len(watching()) == 1
    settings.clear()
    gc.collect()
    until(lambda: watching() == [])


def test_keys_of_the_environment_do_not_change(tmp_path: Path) -> None:
    key = SigningKey("k1", b"one")
    calls: list[str] = []

    def read() -> tuple[SigningKey, ...]:
        calls.append("read")
        return (key,)

    config = tmp_path / "c.yaml"
    config.write_text("a")
    keyring = Keyring([("k1", b"one")])
    look: Callable[[], None] = KeyWatch(keyring, config, [key], read).look
    config.write_text("b")
    for _ in range(5):
        look()
    assert (calls, keyring.generation) == (["read"], 1)
