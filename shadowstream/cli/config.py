"""``shadowstream config``: check a configuration, and ask where a value comes from."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shadowstream.config import examine, explain, load
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from shadowstream.errors import Problem

__all__ = ["add_parser"]

CHECK = """Check a configuration, for CI: all problems of both lanes at once, each with its place and its cure.

    shadowstream config check shadowstream.yaml
    shadowstream config check shadowstream.yaml --json

Exit codes: 0 nothing is wrong, 1 problems were found. A problem in shadow's part counts here, although a worker would
start with the shadow lane off."""
EXPLAIN = """Say which value a lane uses, from which key and layer, and why.

    shadowstream config explain rate_limit voucher.claim --lane shadow
    shadowstream config explain default_rate_limit soft_rate_limit --lane shadow --json
    shadowstream config explain topics voucher.claimed"""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    config = commands.add_parser("config", help="check a configuration, explain its values")
    parts = config.add_subparsers(title="commands", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    check = parts.add_parser("check", help="report everything that is wrong", description=CHECK, formatter_class=raw)
    check.add_argument("file", metavar="FILE", nargs="?", default="shadowstream.yaml")
    check.set_defaults(run=_check)
    explained = parts.add_parser("explain", help="where a value comes from", description=EXPLAIN, formatter_class=raw)
    explained.add_argument("section", metavar="SECTION", help="rate_limit, resilience, topics, kafka, ...")
    explained.add_argument("key", metavar="KEY", help="a command, a topic or a field")
    explained.add_argument("--lane", type=Lane, choices=list(Lane), default=Lane.NORMAL)
    explained.add_argument("--config", metavar="FILE", default="shadowstream.yaml")
    explained.set_defaults(run=_explain)
    for parser in (check, explained):
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def _check(args: argparse.Namespace) -> int:
    found = examine(args.file)
    warnings = found.settings.warnings if found.settings else ()
    lanes = ((Lane.NORMAL, found.normal_problems), (Lane.SHADOW, found.shadow_problems))
    if args.json:
        problems = [asdict(each) | {"lane": lane} for lane, several in lanes for each in several]
        _print_json({"ok": not problems, "problems": problems, "warnings": list(warnings)})
    else:
        for lane, several in lanes:
            _say_all(lane, several)
        for warning in warnings:
            sys.stdout.write(f"warning: {warning}\n")
        if not found.problems:
            sys.stdout.write(f"{args.file}: ok\n")
    return 1 if found.problems else 0


def _say_all(lane: Lane, problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        sys.stdout.write(f"{lane}: {problem}\n")


def _explain(args: argparse.Namespace) -> int:
    found = explain(load(args.config), args.section, args.key, args.lane)
    if args.json:
        _print_json({"lane": args.lane} | asdict(found))
        return 0
    for name in ("value", "key_used", "layer", "reason"):
        sys.stdout.write(f"{name + ':':<10}{getattr(found, name)}\n")
    for name, detail in found.fields.items():
        sys.stdout.write(f"  {name}: {detail.value}  ({detail.key_used or 'default'}, {detail.layer})\n")
    return 0


def _print_json(answer: object) -> None:
    sys.stdout.write(json.dumps(answer, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever a configuration holds
    return dict(value) if hasattr(value, "keys") else list(value) if isinstance(value, (tuple, set)) else str(value)
