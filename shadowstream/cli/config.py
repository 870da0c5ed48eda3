"""``shadowstream config``: check a configuration, look it through, compare, and say where a value comes from."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from shadowstream.cli.app import commands_of
from shadowstream.cli.options import DEFAULT_FILE, default_file, described, settings_in_force, write
from shadowstream.config import Explanation, differences, examine, explain, lint, unused
from shadowstream.errors import Problem, SetupError
from shadowstream.kafka import usable
from shadowstream.lane import Lane

if TYPE_CHECKING:
    import argparse

    from shadowstream.config import Examined, LaneSettings, Settings

__all__ = ["add_parser", "run"]

FOUND_EXIT, USAGE_EXIT = 1, 2

ABOUT = """Check a configuration before it is deployed, or ask why a lane has the value it has.

    shadowstream config check shadowstream.yaml
    shadowstream config lint shadowstream.yaml
    shadowstream config diff shadowstream.yaml
    shadowstream config explain rate_limit voucher.claim --lane shadow"""

ABOUT_CHECK = """Report everything that is wrong with a configuration at once: where, what, and the cure.

The environment counts (SHADOWSTREAM__KAFKA__BOOTSTRAP.SERVERS=...), and so do the secrets that mark.keys names.
A problem in shadow's part fails the check too, though a worker would start with the shadow lane off.

    shadowstream config check shadowstream.yaml          # in CI: exit code 1 when there is a problem
    shadowstream config check shadowstream.yaml --json   # {"ok": ..., "problems": [...], "warnings": [...]}

Exit codes: 0 nothing wrong, 1 problems found, 2 wrong usage."""

ABOUT_LINT = """Report what loads and is probably not meant.

Limits that shadow has by fallback (what is behind them may see twice as much), sinks of both lanes in one place, rules
of shadow's alone, limits that admit nothing, soft rates above hard ones, fields without effect, and values of the file
that the environment says otherwise. With --app also rules that no handler and no decorated function goes by.

    shadowstream config lint shadowstream.yaml
    shadowstream config lint shadowstream.yaml --app app:worker
    shadowstream config lint shadowstream.yaml --json    # {"ok": ..., "remarks": [...], "warnings": [...]}

Exit codes: 0 nothing to remark, 1 remarks, or problems in normal's part, 2 wrong usage."""

ABOUT_DIFF = """Say in what the lanes differ, or one lane of two files; secrets are starred out.

    shadowstream config diff shadowstream.yaml                          # normal -> shadow
    shadowstream config diff old.yaml new.yaml --lane shadow            # what a change does to the shadow lane
    shadowstream config diff old.yaml new.yaml --json                   # {"differences": [{"key", "before", "after"}]}

Exit codes: 0 no difference, 1 differences, or problems in a lane that is compared, 2 wrong usage."""

ABOUT_EXPLAIN = """Say which value a lane has, which key and layer gave it, and why that one won.

KEY is a field (default_rate_limit soft_rate_limit), a rule by its name (rate_limit voucher.claim), or one field of a
rule in quotes (rate_limit "voucher.claim hard"). Layers, lowest first: default, file, environment, live. Secrets are
starred out.

    shadowstream config explain default_rate_limit soft_rate_limit --lane shadow
    shadowstream config explain resilience voucher.dispatch --lane shadow --json
    shadowstream config explain kafka group.id --lane shadow --config staging.yaml
    shadowstream config explain rate_limit voucher.claim --lane shadow --live   # what is laid over, too

Exit codes: 0 explained, 1 the configuration has problems in normal's part, 2 no such section or field, 3 Redis does not
answer (with --live)."""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(subparsers, "config", "check a configuration, or explain a value", ABOUT)
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    check = described(actions, "check", "report everything that is wrong with a configuration", ABOUT_CHECK)
    check.add_argument("file", nargs="?", metavar="FILE", help=f"the configuration (default: {DEFAULT_FILE})")
    check.add_argument("--config", metavar="FILE", help="the same, for scripts that give it to every command")
    why = described(actions, "explain", "say where a value comes from", ABOUT_EXPLAIN)
    why.add_argument("section", metavar="SECTION", help="for example rate_limit, resilience, topics, kafka")
    why.add_argument("key", metavar="KEY", help="a field, a rule's name, or 'NAME FIELD'")
    why.add_argument("--lane", choices=[lane.value for lane in Lane], default="normal", help="default: normal")
    why.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
    why.add_argument("--live", action="store_true", help="with what is laid over it while a test runs, from Redis")
    look = described(actions, "lint", "report what loads and is probably not meant", ABOUT_LINT)
    look.add_argument("file", nargs="?", metavar="FILE", help=f"the configuration (default: {DEFAULT_FILE})")
    look.add_argument("--app", metavar="APP", help="module:name of the worker: also report rules that nothing goes by")
    compare = described(actions, "diff", "say in what lanes, or two files, differ", ABOUT_DIFF)
    compare.add_argument("file", nargs="?", metavar="FILE", help=f"the configuration (default: {DEFAULT_FILE})")
    compare.add_argument("other", nargs="?", metavar="OTHER", help="another one, to compare one lane of both")
    compare.add_argument("--lane", choices=[lane.value for lane in Lane], help="with OTHER: which lane (default: both)")
    for action in (check, look, compare, why):
        action.add_argument("--json", action="store_true", help="print one JSON object")
        action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what is asked for, and return the exit code."""
    return {"check": _check, "lint": _lint, "diff": _diff, "explain": _explain}[args.action](args)


def _check(args: argparse.Namespace) -> int:
    if args.file and args.config and args.file != args.config:
        return _failed(f"FILE is {args.file} and --config is {args.config}; name one file", USAGE_EXIT)
    path = args.file or args.config or default_file()
    found = _with_clients(path, examine(path))
    warnings = found.settings.warnings if found.settings else ()
    if args.json:
        write(
            json.dumps({"ok": not found.problems, "problems": _problems(found), "warnings": list(warnings)}, indent=2)
        )
    else:
        _report(path, found, warnings)
    return FOUND_EXIT if found.problems else 0


def _with_clients(path: str, found: Examined) -> Examined:
    """Add what only the Kafka client itself can say of its properties; shadow's fall back to normal's."""
    if found.settings is None:
        return found
    if problems := _of_client(path, found.settings.normal):
        return replace(found, normal_problems=(*found.normal_problems, *problems))
    shadow = found.settings.shadow
    return replace(found, shadow_problems=(*found.shadow_problems, *(_of_client(path, shadow) if shadow else ())))


def _of_client(path: str, lane: LaneSettings) -> tuple[Problem, ...]:
    try:
        usable(lane)
    except SetupError as error:
        key = "kafka" if lane.lane is Lane.NORMAL else "shadow.kafka"
        return (Problem(path, key, str(error), "see librdkafka's CONFIGURATION.md"),)
    return ()


def _problems(found: Examined) -> list[dict[str, str]]:
    parts = ((Lane.NORMAL, found.normal_problems), (Lane.SHADOW, found.shadow_problems))
    return [{**asdict(problem), "lane": lane.value} for lane, problems in parts for problem in problems]


def _report(path: str, found: Examined, warnings: tuple[str, ...]) -> None:
    for problem in found.problems:
        write(str(problem))
    for warning in warnings:
        write(f"{path}: warning: {warning}")
    if found.normal_problems:
        write(f"{path}: {len(found.problems)} to correct; a worker would refuse to start")
    elif found.shadow_problems:
        write(f"{path}: {len(found.problems)} to correct; a worker would start with the shadow lane off")
    else:
        write(f"{path}: nothing wrong")


def _lint(args: argparse.Namespace) -> int:
    path = args.file or default_file()
    found = examine(path)
    if found.settings is None:
        return _failed("\n".join(map(str, found.problems)), FOUND_EXIT)
    remarks, warnings = lint(found.settings), found.settings.warnings
    if args.app:
        remarks += unused(found.settings, commands_of(args.app))
    some = bool(remarks or warnings)
    if args.json:
        write(json.dumps({"ok": not some, "remarks": list(map(asdict, remarks)), "warnings": warnings}, indent=2))
        return FOUND_EXIT if some else 0
    for remark in remarks:
        write(str(remark))
    for warning in warnings:
        write(f"{path}: {warning}")
    if found.shadow_problems:
        write(f"{path}: the shadow lane is off, see `shadowstream config check`")
    write(f"{path}: {len(remarks) + len(warnings) or 'nothing'} to look at")
    return FOUND_EXIT if some else 0


def _diff(args: argparse.Namespace) -> int:
    if args.lane and not args.other:
        return _failed("--lane is for two files; with one, normal is compared with shadow", USAGE_EXIT)
    sides: list[Settings] = []
    for path in dict.fromkeys((args.file or default_file(), args.other or args.file or default_file())):
        found = examine(path)
        if found.settings is None or (found.problems and args.lane != Lane.NORMAL.value):
            return _failed("\n".join(map(str, found.problems)), FOUND_EXIT)
        sides.append(found.settings)
    pairs = [(Lane.NORMAL, Lane.SHADOW)]
    if args.other:
        pairs = [(lane, lane) for lane in Lane if args.lane in {None, lane.value}]
    told = [
        {"lane": after.value, **each._asdict()}
        for pair in pairs
        for each in differences(sides[0], sides[-1], pair)
        for after in pair[1:]
    ]
    if args.json:
        write(json.dumps({"differences": told}, indent=2, default=str))
    else:
        for each in told:
            lane = f"{each['lane']}: " if args.other else ""
            write(f"{lane}{each['key']}: {_yaml(each['before'])} -> {_yaml(each['after'])}")
    return FOUND_EXIT if told else 0


def _explain(args: argparse.Namespace) -> int:
    examined = examine(args.config or default_file())
    if examined.settings is None:
        return _failed("\n".join(map(str, examined.problems)), FOUND_EXIT)
    settings = settings_in_force(args) if args.live else examined.settings
    try:
        found = explain(settings, args.section, args.key, Lane(args.lane))
    except SetupError as error:
        return _failed(str(error), USAGE_EXIT)
    write(json.dumps(asdict(found), indent=2, default=str) if args.json else _told(found))
    return 0


def _told(found: Explanation) -> str:
    lines = [f"value:    {_yaml(found.value)}", f"key used: {found.key_used or '(none)'}", f"layer:    {found.layer}"]
    lines += [f"reason:   {found.reason}"]
    for name, told in found.fields.items():
        lines.append(f"  {name} = {_yaml(told.value)}  ({told.key_used or 'default'}, {told.layer})")
    return "\n".join(lines)


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"shadowstream config: {message}\n")
    return code
