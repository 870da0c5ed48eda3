"""``shadowstream doctor``: is this service ready for a stress test?"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shadowstream.cli.fleet.runs import run_id
from shadowstream.cli.options import DEFAULT_FILE, described, settings_of, write
from shadowstream.fcst.doctor import State, examined

if TYPE_CHECKING:
    import argparse

    from shadowstream.fcst.doctor import Diagnosis

__all__ = ["add_parser"]

FAIL_EXIT = 1

ABOUT = """Look at everything that a stress test of this service needs, before it is started.

The configuration and its sinks, signing keys, the hosts that shadow calls may go to, Redis and its clock, brokers,
topics and what belongs beside them, compacted topics (refused: a shadow message would take a real one's place), what
this service may do there, and the members of both groups: one that does not know marks handles shadow messages as real
ones.

    shadowstream doctor
    shadowstream doctor --run fcst-1111          # its lease, too
    shadowstream doctor --json                   # {"ok": ..., "lines": [{"about", "state", "told", "cure"}]}

Nothing is changed. Exit codes: 0 ready (warnings are no reason not to start), 1 not ready, 2 wrong usage or set-up."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(commands, "doctor", "say whether this service is ready for a stress test", ABOUT)
    parser.add_argument("--run", dest="name", metavar="RUN", type=run_id, help="the run that is to be started")
    parser.add_argument("--timeout", metavar="S", type=float, default=10.0, help="seconds that brokers are waited for")
    parser.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    found = []
    for each in examined(settings_of(args), args.name, timeout_s=args.timeout):
        found.append(each)
        if not args.json:
            write(_line(each))
    counts = Counter(each.state for each in found)
    if args.json:
        write(json.dumps({"ok": not counts[State.FAIL], "lines": [asdict(each) for each in found]}))
    else:
        write(f"{counts[State.OK]} ok, {counts[State.WARN]} warnings, {counts[State.FAIL]} to be mended before a test")
    return FAIL_EXIT if counts[State.FAIL] else 0


def _line(found: Diagnosis) -> str:
    cure = f"\n      {found.cure}" if found.cure else ""
    return f"{found.state.value:4}  {found.about}: {found.told}{cure}"
