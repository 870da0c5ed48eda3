"""``shadowstream worker``: run a worker's lanes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from shadowstream.cli.app import worker_of
from shadowstream.cli.options import described
from shadowstream.kafka import usable
from shadowstream.lane import Lane

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from shadowstream.config import LaneSettings
    from shadowstream.events import Hook

__all__ = ["add_parser", "run"]

ABOUT = """Run a worker: both lanes under one command, a process each, the shadow one at lower CPU priority.

APP names the module and the worker in it, as for uvicorn or gunicorn:

    shadowstream worker app:worker
    shadowstream worker app:worker --lane normal          # only one lane, in this process
    shadowstream worker app:worker --metrics-port 9100    # Prometheus: normal on 9100, shadow on 9101

SIGTERM or Ctrl-C drains and exits; a second one exits at once. Exit codes: 0 drained, 2 wrong set-up, 3 the brokers
failed us, 4 a handler outlived the drain (its messages are read again)."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(commands, "worker", "run a worker's lanes", ABOUT)
    parser.add_argument("app", metavar="APP", help="module:name of the shadowstream.Worker, for example app:worker")
    parser.add_argument("--lane", choices=["both", "normal", "shadow"], help="default: what the worker was built with")
    parser.add_argument("--config", metavar="FILE", help="read this file instead of the one that the app names")
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics; shadow on PORT + 1")
    parser.add_argument("--strict", action="store_true", help="refuse to start with the shadow lane off")
    parser.add_argument("--fail-fast", action="store_true", help="exit when the brokers or a topic cannot be reached")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the worker and run it until a signal."""
    if args.config:
        os.environ["SHADOWSTREAM_CONFIG"] = args.config
    if args.metrics_port is not None:
        os.environ["SHADOWSTREAM__WORKER__METRICS_PORT"] = str(args.metrics_port)
    worker = worker_of(args.app)
    if args.strict:
        usable(worker.settings.of(Lane.SHADOW))
    worker.run(lanes=args.lane, fail_fast=args.fail_fast, hooks=_watched)
    return 0


def _watched(lane: LaneSettings) -> Iterable[Hook]:
    if lane.worker.metrics_port is None:
        return ()
    # Here and not above: the extra shadowstream[metrics] is needed by those who ask for a port only.
    from shadowstream.metrics import watched

    return watched(lane.worker.metrics_port, lane.worker.metrics_address)
