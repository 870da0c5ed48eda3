"""``shadowstream arm``, ``disarm``, ``kill``, ``runs``: which stress tests may go on, said to every process at once."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from shadowstream.cli.options import DEFAULT_FILE, described, settings_of, write
from shadowstream.config.fields import WrongValueError, duration
from shadowstream.errors import SetupError
from shadowstream.gate.fleet import Switch
from shadowstream.gate.fleet.runs import GOOD_S
from shadowstream.lane import RUN_ID

if TYPE_CHECKING:
    from shadowstream.gate.fleet import Killed

__all__ = ["add_parser"]

NOTHING_EXIT = 1

ABOUT_ARM = """Let a run go on for a while, in every shadow process of the service.

Where leases are required (`fleet: {url: ..., lease: true}`, the default with signed marks) shadow messages wait, or are
parked or shed, until their run is armed. A lease ends by itself; arming again gives it a new end.

    shadowstream arm fcst-1111 --for 2h

Exit codes: 0 armed, 2 wrong usage or set-up, 3 Redis does not answer."""

ABOUT_DISARM = """Take a run's lease back: its messages wait again, within a second; other runs go on.

    shadowstream disarm fcst-1111

Exit codes: 0 disarmed, 1 it had no lease, 2 wrong usage or set-up, 3 Redis does not answer."""

ABOUT_KILL = """Stop all shadow traffic of the service: take back every lease, and wait until every process has seen it.

It prints how long that took. A process that does not answer (its network is gone, it stands still) is counted; it stops
by itself within three seconds, for what it knows lapses.

    shadowstream kill
    shadowstream kill --json        # {"members": 12, "silent": 0, "seconds": 0.41}

Exit codes: 0 every process has seen it, 1 some have not said so, 2 wrong usage or set-up, 3 Redis does not answer: then
no shadow process hears of a lease either, and each stops by itself."""

ABOUT_RUNS = """List the runs that are armed, and for how much longer.

    shadowstream runs
    shadowstream runs --json        # {"fcst-1111": 7183.2}

Exit codes: 0 listed, 1 there are none, 2 wrong usage or set-up, 3 Redis does not answer."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the commands to the command line."""
    arm = described(commands, "arm", "let a run go on for a while", ABOUT_ARM)
    arm.add_argument("name", metavar="RUN", type=run_id, help="the run's id, as its messages are marked")
    arm.add_argument("--for", dest="seconds", type=seconds, required=True, metavar="2h", help="until when, from now")
    disarm = described(commands, "disarm", "take a run's lease back", ABOUT_DISARM)
    disarm.add_argument("name", metavar="RUN", type=run_id, help="the run's id")
    kill = described(commands, "kill", "stop all shadow traffic of the service", ABOUT_KILL)
    runs = described(commands, "runs", "list the runs that are armed", ABOUT_RUNS)
    for parser, does in ((arm, _arm), (disarm, _disarm), (kill, _kill), (runs, _runs)):
        parser.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
        parser.set_defaults(run=does)
    for parser in (kill, runs):
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_id(text: str) -> str:
    """Read a run's id."""
    if not RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no run id: 1 to 40 of a-z, 0-9 and '-'")
    return text


def seconds(text: str) -> float:
    """Read how long a lease lasts."""
    try:
        found = duration(text)
    except WrongValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error
    if found <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a lease lasts for some time; write 2h, 30m or 45s")
    return found


def _switch(args: argparse.Namespace) -> Switch:
    fleet = settings_of(args).fleet
    if fleet is None:
        raise SetupError("the configuration names no place to say it in; add `fleet: {url: redis://localhost:6379/0}`")
    return Switch(fleet)


def _arm(args: argparse.Namespace) -> int:
    _switch(args).arm(args.name, args.seconds)
    write(f"{args.name} may go on for {args.seconds:g} s")
    return 0


def _disarm(args: argparse.Namespace) -> int:
    had = _switch(args).disarm(args.name)
    write(f"{args.name} is disarmed" if had else f"{args.name} has no lease")
    return 0 if had else NOTHING_EXIT


def _kill(args: argparse.Namespace) -> int:
    killed = _switch(args).kill()
    write(json.dumps(killed._asdict()) if args.json else _told(killed))
    return NOTHING_EXIT if killed.silent else 0


def _told(killed: Killed) -> str:
    seen = killed.members - killed.silent
    silent = f"; {killed.silent} have not said so and stop by themselves within {GOOD_S:g} s" if killed.silent else ""
    return f"killed: {seen} of {killed.members} processes have seen it, in {killed.seconds:.2f} s{silent}"


def _runs(args: argparse.Namespace) -> int:
    armed = _switch(args).armed()
    if args.json:
        write(json.dumps({run: round(seconds, 1) for run, seconds in armed.items()}))
    else:
        for run, seconds in armed.items():
            write(f"{run}  {seconds:.0f} s left")
    return 0 if armed else NOTHING_EXIT
