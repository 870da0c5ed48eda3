"""``config lint`` and ``config diff``: what loads and is probably not meant, and in what two sides differ."""

from __future__ import annotations

import json
import sys

import pytest

from shadowstream.config import MarkSettings, Settings, differences, lint
from shadowstream.errors import SetupError
from shadowstream.lane import Lane
from tests.lanes import lane_of

BOTH = (Lane.NORMAL, Lane.SHADOW)


@pytest.fixture
def remarks(loaded):
    def of(text: str, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
        return [(each.key, each.message) for each in lint(loaded(text, environ))]

    return of


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("rate_limit: {a: {hard: 5/s}}", "rate_limit a hard", "may see 5/s from each lane"),
        ("rate_limit: {a: {hard: 5/s, soft: 1/s, shadow_hard: 1/s}}", "rate_limit a soft", "may see 1/s from each"),
        ("default_rate_limit: {hard_rate_limit: 5}", "default_rate_limit hard_rate_limit", "may see 5 from each lane"),
        ("resilience: {a: {max_concurrent: 3}}", "resilience a max_concurrent", "may see 3 from each lane"),
        ("rate_limit: {a: {hard: 0, shadow_hard: 1/s}}", "rate_limit a hard", "admits no real message"),
        ("rate_limit: {shadow.a: {hard: 1/s}}", "rate_limit shadow.a", "is a rule of shadow's alone"),
        ("resilience: {a: {warm_from: 0.5}}", "resilience a warm_from", "changes nothing without `warm_up`"),
        ("resilience: {a: {open_for_max: 1m}}", "resilience a open_for_max", "without `open_growth`"),
        ("rate_limit: {a: {burst: 5}}", "rate_limit a burst", "changes nothing without `soft` or `hard`"),
        ("topics: {t: {rest: 5s}}", "topics t rest", "changes nothing without `rounds`"),
        ("data: {r: {url: x, db: 0, shadow: {url: x, db: 1}}}", "data r shadow", "is where normal's is"),
    ],
)
def test_what_is_probably_not_meant_is_said_once_with_its_place(remarks, text, key, message):
    ((found, told),) = remarks(text)
    assert found == key
    assert message in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rate_limit: {a: {hard: 5/s}, shadow.a: {hard: 1/s}}",
        "rate_limit: {a: {hard: 5/s}, shadow.a: null}",
        "rate_limit: {a: {hard: null}}",
        "rate_limit: {a: {hard: 5/s, warm_up: 1m, warm_from: 0.5, shadow_hard: 1/s}}",
        "resilience: {a: {failure_rate: 0.2, slow_call: 1s, slow_rate: 0.2}}",
        "topics: {t: {rounds: 1, rest: 5s}}",
        "data: {r: {url: x, shadow: {url: y}}}",
        "tasks: {t: {every: 1m}}",
    ],
)
def test_what_is_meant_is_not_remarked_on(remarks, text):
    assert remarks(text) == []


def test_a_rule_of_shadow_s_alone_is_taken_for_a_slip_when_one_is_near(loaded):
    text = "rate_limit: {voucher.claim: {soft: null}, shadow.voucher.clam: {hard: 1/s}}"
    (remark,) = lint(loaded(text))
    assert remark.cure == "Did you mean `shadow.voucher.claim`?"
    assert remark.place == "c.yaml:3"


def test_a_value_that_the_environment_covers_is_never_read(remarks):
    text = "worker: {batch: 5}"
    assert remarks(text, {"SHADOWSTREAM__WORKER__BATCH": "5"}) == []
    ((key, message),) = remarks(text, {"SHADOWSTREAM__WORKER__BATCH": "7"})
    assert key == "worker batch"
    assert "the environment layer says otherwise (SHADOWSTREAM__WORKER__BATCH)" in message


def test_settings_built_by_hand_cannot_be_looked_through():
    settings = Settings("s", MarkSettings(), lane_of(Lane.NORMAL), None)
    with pytest.raises(SetupError, match="built by hand"):
        lint(settings)
    with pytest.raises(SetupError, match="built by hand"):
        differences(settings, settings, BOTH)


def test_the_lanes_differ_in_what_shadow_has_of_its_own(loaded):
    settings = loaded("rate_limit: {a: {hard: 5/s}, shadow.a: {hard: 1/s}, shadow.b: {hard: 2/s}}")
    assert {tuple(each) for each in differences(settings, settings, BOTH)} == {
        ("kafka group.id", "uservoucher", "uservoucher.shadow"),
        ("kafka client.id", "uservoucher.normal", "uservoucher.shadow"),
        ("worker nice", 0, 10),
        ("rate_limit a hard", "5/s", "1/s"),
        ("rate_limit b hard", None, "2/s"),
    }


def test_a_change_is_told_lane_by_lane_and_a_rule_that_is_gone_with_what_it_said(loaded):
    old = loaded("rate_limit: {a: {hard: 5/s, shadow_hard: 1/s}}\nresilience: {a: {failure_rate: 0.2}}")
    new = loaded("rate_limit: {a: {hard: 6/s, shadow_hard: 1/s}}\nresilience: {a: null}")
    gone = ("resilience a failure_rate", 0.2, None)
    assert differences(old, new, (Lane.NORMAL, Lane.NORMAL)) == (("rate_limit a hard", "5/s", "6/s"), gone)
    assert differences(old, new, (Lane.SHADOW, Lane.SHADOW)) == (gone,)
    assert differences(old, old, (Lane.SHADOW, Lane.SHADOW)) == ()


def test_a_secret_that_is_another_is_told_without_telling_it(loaded):
    variable = "SHADOWSTREAM__KAFKA__SASL.PASSWORD"
    old, new = (loaded("", {variable: secret}) for secret in ("first", "second"))
    assert differences(old, new, (Lane.NORMAL, Lane.NORMAL)) == (("kafka sasl.password", "***", "*** (another)"),)


def test_lint_exits_1_with_remarks_and_0_without(run, capsys):
    assert run("", "lint", "c.yaml") == 0
    assert capsys.readouterr().out == "c.yaml: nothing to look at\n"
    assert run("rate_limit: {a: {hard: 5/s}}", "lint", "c.yaml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("c.yaml:3: rate_limit a hard: shadow has it by fallback")
    assert lines[-1] == "c.yaml: 1 to look at"


def test_lint_in_json_has_remarks_and_warnings(run, capsys):
    assert run("topics: {t: {}}\nrate_limit: {a: {hard: 5/s}}", "lint", "c.yaml", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], len(found["remarks"]), len(found["warnings"])) == (False, 1, 1)
    assert list(found["remarks"][0]) == ["place", "key", "message", "cure"]


def test_lint_of_what_does_not_load_says_so(run, capsys):
    assert run("worker: {nice: x}", "lint", "c.yaml") == 1
    assert "worker nice" in capsys.readouterr().err


def test_diff_of_one_file_is_normal_by_shadow(run, capsys):
    assert run("worker: {batch: 5, shadow_batch: 6}", "diff", "c.yaml") == 1
    assert "worker batch: 5 -> 6" in capsys.readouterr().out.splitlines()


def test_diff_of_two_files_names_the_lane(run, capsys):
    assert run("worker: {batch: 5}", "diff", "c.yaml", "d.yaml", other="worker: {batch: 6}") == 1
    assert capsys.readouterr().out.splitlines() == [f"{lane}: worker batch: 5 -> 6" for lane in Lane]
    assert run("worker: {batch: 5}", "diff", "c.yaml", "d.yaml", "--lane", "shadow", "--json", other="") == 1
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert found == {"lane": "shadow", "key": "worker batch", "before": 5, "after": 1000}
    assert run("", "diff", "c.yaml", "d.yaml") == 0


def test_diff_of_a_lane_that_is_off_says_why_and_normal_alone_can_be_compared(run, capsys):
    text = "shadow.worker: {nice: x}"
    assert run(text, "diff", "c.yaml", "d.yaml") == 1
    assert "shadow.worker nice" in capsys.readouterr().err
    assert run(text, "diff", "c.yaml", "d.yaml", "--lane", "normal") == 0


def test_a_lane_without_a_second_file_is_wrong_usage(run, capsys):
    assert run("", "diff", "c.yaml", "--lane", "shadow") == 2
    assert "--lane is for two files" in capsys.readouterr().err


APP = """
import shadowstream as ss
settings = ss.load("c.yaml", environ={})
worker = ss.Worker(settings)
guarded = ss.Guarded(settings)

@worker.handles("t", command="voucher.claim")
def claim(message): ...

@guarded("voucher.use")
def use(): ...
"""
RULES = """
topics: {t: {}}
rate_limit: {voucher.claim: {hard: 5/s}, shadow.voucher.clam: {hard: 1/s}}
resilience: {voucher.use: {window: 10}, voucher.old: {window: 10}}
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / "app_of_lint.py").write_text
    sys.modules.pop("app_of_lint", None)


def test_rules_that_nothing_of_the_app_goes_by_are_reported_with_the_near_one(run, app, capsys):
    app(APP)
    assert run(RULES, "lint", "c.yaml", "--json", "--app", "app_of_lint:worker") == 1
    remarks = json.loads(capsys.readouterr().out)["remarks"]
    found = {each["key"]: each["cure"] for each in remarks if "goes by" in each["message"]}
    assert list(found) == ["rate_limit shadow.voucher.clam", "resilience voucher.old"]
    assert found["rate_limit shadow.voucher.clam"] == "Did you mean `voucher.claim`?"


@pytest.mark.parametrize(("text", "told"), [(None, "no module named"), ("worker = 1", "neither a shadowstream.Worker")])
def test_an_app_that_is_none_is_said_with_the_cure(run, app, text, told):
    if text is not None:
        app(text)
    with pytest.raises(SetupError, match=told):
        run(RULES, "lint", "c.yaml", "--app", "app_of_lint" if text else "no_such_app")
