"""``shadowstream demo``: the whole idea in under two minutes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shadowstream.cli.options import described, write
from shadowstream.errors import SetupError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser", "run"]

ABOUT = """Run the voucher chain in both lanes and see whether real traffic feels a stress test.

It starts a broker inside this process, the three consuming services as users run them, and two loads: real traffic at a
steady rate, and shadow traffic that is ramped to ten times that, whose handler then hangs. It shows rates, latencies,
backlogs and breakers by lane, lets the handler go, waits until all is quiet, and judges: did the normal p99 hold, is
sent = handled, is nothing lost, did each message end in exactly one outcome?

    shadowstream demo                                # no broker, no Docker; about 80 seconds
    shadowstream demo --bootstrap localhost:9092     # the same on a real cluster, on topics of its own
    shadowstream demo --json figures.json            # keeps the figures

The services keep their state in this machine's memory; set SHADOWSTREAM__DATA__REDIS__URL and
SHADOWSTREAM__DATA__SHADOW.REDIS__URL to keep it in Redis. A cluster that asks who you are: set what every service
sets, such as SHADOWSTREAM__KAFKA__SECURITY_PROTOCOL. Exit codes: 0 all laws hold, 1 a law is broken, 2 wrong usage
or set-up, 3 the brokers failed us, 130 interrupted."""

FEWEST_SECONDS = 15.0


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(commands, "demo", "see two lanes on one log, from start to verdict", ABOUT)
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="use this cluster; default: a broker inside this process"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures and the verdict to this file")
    parser.add_argument(
        "--normal-rate",
        metavar="PER_S",
        type=float,
        default=40.0,
        help="real messages per second; shadow goes to ten times that (default: 40, good for two cores)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=45.0,
        help="of load, a third each: normal alone, ramp, stuck; start and drain come on top (default: 45)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo and return 0 when every law held, else 1."""
    from shadowstream.fcst.demo import Demo, Plan, Screen

    if args.seconds < FEWEST_SECONDS or not 10 <= args.normal_rate <= 1000:  # noqa: PLR2004 - said in the message
        raise SetupError(
            f"--seconds {args.seconds:g} --normal-rate {args.normal_rate:g}: use {FEWEST_SECONDS:g} seconds or more,"
            " and 10 to 1000 messages per second"
        )
    if args.json is not None and not args.json.parent.is_dir():
        raise SetupError(f"--json {args.json}: there is no folder {args.json.parent}; make it, or name another file")
    # Asked to end by another process: the same way out as Ctrl-C, so that everything started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo = Demo(Plan(args.bootstrap, args.normal_rate, args.seconds), Screen())
    try:
        result = demo.run()
    except KeyboardInterrupt:
        sys.stderr.write("shadowstream: interrupted; everything that the demo started has ended\n")
        raise
    if args.json is not None:
        keep(result.as_json(), args.json)
    return 0 if result.ok else 1


def keep(text: str, file: Path) -> None:
    """Write the figures to a file, or to the terminal when that fails.

    Raises:
        SetupError: they could not be written; they were shown instead.
    """
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        write(text)
        raise SetupError(f"--json {file}: cannot be written ({error.strerror}); the figures are above") from error
