"""The command line: parse, call one function, print.

Exit codes: 0 done, 1 the test broke a law or found problems, 2 wrong usage or set-up, 3 the brokers failed us,
130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from shadowstream import __version__
from shadowstream.cli import config, demo, dlq, parked, retry, worker
from shadowstream.cli.fleet import limit, runs
from shadowstream.cli.marks import doctor, token, trace
from shadowstream.errors import BrokerError, ShadowstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

ABOUT = """Two lanes on one Kafka log: stress test a whole production chain without hurting one real user.

Begin with `shadowstream demo`: it needs no broker and shows the whole idea in under two minutes."""
USAGE_EXIT, BROKER_EXIT, INTERRUPTED_EXIT = 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(
        level=args.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except ShadowstreamError as error:
        sys.stderr.write(f"shadowstream: {error}\n")
        return BROKER_EXIT if isinstance(error, BrokerError) else USAGE_EXIT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shadowstream", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"shadowstream {__version__}")
    parser.add_argument(
        "--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="default: warning"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (demo, worker, config, limit, dlq, parked, retry, runs, token, doctor, trace):
        command.add_parser(commands)
    return parser
