"""Marks by hand, and the keys that they are signed with."""

from __future__ import annotations

import io
import json
import stat
import time
from base64 import b64decode

import pytest

from shadowstream.cli import main
from shadowstream.config import load
from tests.signals import ENVIRON, RUN, SECRET, SIGNED, settings_of, signed


@pytest.fixture
def config(tmp_path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    settings_of(tmp_path)
    return str(tmp_path / "shadowstream.yaml")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], config: str):
    def run(*arguments: str, code: int = 0) -> str:
        assert main(["token", *arguments, "--config", config]) == code
        return capsys.readouterr().out

    return run


def test_a_new_mark_is_believed_until_it_expires(said) -> None:
    value = said("new", RUN, "--for", "10m").strip()
    found = json.loads(said("inspect", value, "--json"))
    assert (found["verdict"], found["run"], found["key"]) == ("shadow", RUN, "k1")
    assert 590 <= found["left_s"] <= 600


def test_a_new_mark_lasts_as_long_as_one_may(said) -> None:
    told = json.loads(said("new", RUN, "--json"))
    assert (told["header"], told["run"]) == ("x-shadow", RUN)
    assert told["expires_at"] - time.time() == pytest.approx(6 * 3600, abs=5)
    assert json.loads(said("inspect", told["value"], "--json"))["verdict"] == "shadow"


def test_a_mark_that_nobody_would_believe_is_not_written(said, capsys) -> None:
    assert said("new", RUN, "--for", "7h", code=2) == ""


@pytest.mark.parametrize("run", ["UPPER", "a b", "", "x" * 41, "a;b"])
def test_what_is_no_run_id_is_refused(said, run: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        said("new", run)
    assert ended.value.code == 2
    assert "is no run id" in capsys.readouterr().err


def test_without_keys_a_mark_is_not_signed_and_that_is_said(tmp_path, capsys) -> None:
    settings_of(tmp_path, mark={"trust": "open"})
    assert main(["token", "new", RUN, "--config", str(tmp_path / "shadowstream.yaml")]) == 0
    told = capsys.readouterr()
    assert "sig=" not in told.out
    assert "not signed" in told.err


@pytest.mark.parametrize(
    ("value", "verdict", "reason"),
    [
        ("1", "quarantine", "unsigned"),
        ("1;run=a", "quarantine", "unsigned"),
        ("", "quarantine", "empty"),
        ("junk", "quarantine", "malformed"),
        (signed(secret="a guess"), "quarantine", "bad_signature"),
        (signed(key_id="k9"), "quarantine", "unknown_key"),
        (signed(ago_s=7 * 3600), "expired", None),
    ],
)
def test_what_is_not_believed_is_said_with_the_reason(said, value: str, verdict: str, reason: str | None) -> None:
    found = json.loads(said("inspect", value, "--json", code=1))
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    told = said("inspect", value, code=1)
    assert verdict in told.splitlines()[0]
    assert (reason or "") in told


def test_a_mark_is_read_from_the_standard_input_and_its_signature_is_not_repeated(said, monkeypatch) -> None:
    value = signed(hop=2)
    monkeypatch.setattr("sys.stdin", io.StringIO(value + "\n"))
    told = said("inspect")
    assert "sig" not in told
    assert value.rpartition("=")[2] not in told
    assert "hop      3" in told
    assert f"run      {RUN}" in told


def test_a_new_key_is_written_for_this_user_only_and_shown_nowhere(said, tmp_path) -> None:
    path = tmp_path / "k2"
    told = said("rotate", "k2", "--to", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    assert len(b64decode(secret)) == 32
    assert secret not in told
    assert SECRET not in told
    assert [line[:2] for line in told.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]


def test_the_steps_of_a_rotation_can_be_pasted(said, tmp_path) -> None:
    path = tmp_path / "k2"
    steps = json.loads(said("rotate", "k2", "--to", str(path), "--json"))["steps"]
    for step, ids in zip(steps[:2], (["k1", "k2"], ["k2", "k1"]), strict=True):
        keys = step.partition("mark: ")[2].replace("...", "SHADOW_KEY_1")
        config = tmp_path / "step.yaml"
        config.write_text(f"service: s\nkafka: {{bootstrap.servers: x, group.id: g}}\nmark: {keys}\n")
        assert [key.id for key in load(config, environ=ENVIRON, strict=True).mark.keys] == ids
    assert "21600 s" in steps[2]


def test_an_existing_file_or_key_is_left_alone(said, tmp_path, capsys) -> None:
    path = tmp_path / "k2"
    path.write_text("precious")
    said("rotate", "k2", "--to", str(path), code=2)
    assert path.read_text() == "precious"
    said("rotate", SIGNED["keys"][0]["id"], "--to", str(tmp_path / "k3"), code=2)
    assert not (tmp_path / "k3").exists()
    said("rotate", "k3", "--to", str(tmp_path / "missing" / "k3"), code=2)


@pytest.mark.parametrize("key", ["a;b", "", "x" * 33, "ü"])
def test_what_is_no_key_id_is_refused(said, key: str, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        said("rotate", key, "--to", str(tmp_path / "k"))
    assert "is no key id" in capsys.readouterr().err
