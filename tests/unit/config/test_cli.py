"""``shadowstream config check`` and ``config explain``."""

from __future__ import annotations

import json

import pytest


def test_checking_a_right_file_exits_0(run, capsys):
    assert run("topics: {t: {shadow: false}}", "check", "c.yaml") == 0
    assert capsys.readouterr().out == "c.yaml: nothing wrong\n"


@pytest.mark.parametrize(
    ("text", "end"),
    [("worker: {nice: x}", "would refuse to start"), ("shadow.worker: {nice: x}", "with the shadow lane off")],
)
def test_checking_a_wrong_file_exits_1_whoever_is_to_blame(run, capsys, text, end):
    assert run(text, "check", "--config", "c.yaml") == 1
    out = capsys.readouterr().out
    assert "c.yaml:3: " in out
    assert out.rstrip().endswith(end)


@pytest.mark.parametrize(
    ("variable", "lane", "end"),
    [
        ("SHADOWSTREAM__KAFKA__FOOO", "normal", "would refuse to start"),
        ("SHADOWSTREAM__SHADOW.KAFKA__LINGER.MS", "shadow", "with the shadow lane off"),
    ],
)
def test_a_property_that_the_kafka_client_refuses_is_a_problem_too(run, capsys, monkeypatch, variable, lane, end):
    monkeypatch.setenv(variable, "soon")
    assert run("", "check", "c.yaml") == 1
    out = capsys.readouterr().out
    assert f"the Kafka client of the {lane} lane cannot be made" in out
    assert out.rstrip().endswith(end)
    assert run("", "check", "c.yaml", "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["lane"] == lane


def test_warnings_do_not_fail_the_check(run, capsys):
    assert run("topics: {t: {}}", "check", "c.yaml") == 0
    assert "c.yaml: warning: mark: marks are not signed" in capsys.readouterr().out


def test_the_check_in_json_is_one_object(run, capsys):
    assert run("worker: {nice: x}\nshadow.worker: {nice: y}", "check", "c.yaml", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["ok", "problems", "warnings"]
    assert not found["ok"]
    assert [list(problem) for problem in found["problems"]] == [["place", "key", "message", "cure", "lane"]] * 2
    assert [problem["lane"] for problem in found["problems"]] == ["normal", "shadow"]
    assert run("topics: {t: {}}", "check", "c.yaml", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], len(found["warnings"])) == (True, 1)


def test_a_missing_file_is_a_problem_and_no_traceback(run, capsys):
    assert run("", "check", "none.yaml") == 1
    assert "none.yaml:1: (document): the file does not exist" in capsys.readouterr().out


def test_two_files_are_wrong_usage(run, capsys):
    assert run("", "check", "c.yaml", "--config", "d.yaml") == 2
    assert "name one file" in capsys.readouterr().err


def test_an_explanation_in_json_has_exactly_these_keys(run, capsys):
    command = ("explain", "rate_limit", "a.b", "--lane", "shadow", "--config", "c.yaml", "--json")
    assert run("rate_limit: {a.b: {hard: 5/s, shadow_hard: 1/s}}", *command) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found) == ["fields", "key_used", "lane", "layer", "reason", "value"]
    assert (found["value"], found["lane"], found["layer"]) == ({"hard": "1/s"}, "shadow", "file")
    assert found["fields"]["hard"] == {"value": "1/s", "key_used": "a.b shadow_hard", "layer": "file"}


def test_an_explanation_in_words_names_value_key_layer_and_reason(run, capsys):
    assert run("worker: {batch: 5}", "explain", "worker", "batch", "--config", "c.yaml") == 0
    assert capsys.readouterr().out.splitlines() == [
        "value:    5",
        "key used: batch",
        "layer:    file",
        "reason:   the normal lane reads `batch`, set in the file (c.yaml:3)",
    ]


def test_explaining_what_does_not_exist_is_wrong_usage(run, capsys):
    assert run("", "explain", "workers", "batch", "--config", "c.yaml") == 2
    assert "Did you mean `worker`?" in capsys.readouterr().err


def test_explaining_a_configuration_that_does_not_load_shows_its_problems(run, capsys):
    assert run("worker: {nice: x}", "explain", "worker", "batch", "--config", "c.yaml") == 1
    assert "worker nice" in capsys.readouterr().err


def test_an_explicit_file_wins_over_the_one_in_the_environment(run, capsys, monkeypatch):
    monkeypatch.setenv("SHADOWSTREAM_CONFIG", "c.yaml")
    assert run("", "explain", "worker", "batch") == 0
    assert run("", "explain", "worker", "batch", "--config", "none.yaml") == 1


def test_the_help_teaches_by_example(run, capsys):
    for arguments in (["--help"], ["check", "--help"], ["explain", "--help"]):
        with pytest.raises(SystemExit) as exited:
            run("", *arguments)
        assert exited.value.code == 0
        assert "shadowstream config " in capsys.readouterr().out
