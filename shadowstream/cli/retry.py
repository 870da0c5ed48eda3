"""``shadowstream retry``: read what rests between two rounds."""

from __future__ import annotations

from typing import Any

from shadowstream.cli.letters import add_browsing
from shadowstream.cli.options import described
from shadowstream.kafka.letters import BoxKind
from shadowstream.lane import Lane

__all__ = ["add_parser"]

ABOUT = """Read the messages that a handler could not handle and that come again by themselves, where `rounds` is set.

    shadowstream retry ls voucher.claimed

They rest in TOPIC.retry (normal lane) and TOPIC.shadow.retry (shadow lane). Nothing sends them back by hand: the worker
takes them up when they are due, and after the last round they are dead letters (`shadowstream dlq`)."""

ABOUT_LS = """List what rests, oldest first: where each lies and came from, what was raised, its round, when it is due.

It joins no group, moves nothing, and reads up to what is there when it starts; (answered) says that the worker is done
with it. Before `rounds` goes back to 0, see here that all of them are: nobody reads the topic then.

    shadowstream retry ls voucher.claimed
    shadowstream retry ls voucher.claimed --lane shadow --json

With --json each line is one message; the last line is the summary.
Exit codes: 0 listed, 1 there are none, 2 wrong usage or set-up, 3 the brokers failed us or the topic is not there."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    actions = described(commands, "retry", "list what rests before its next round", ABOUT).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    ls = described(actions, "ls", "list what rests", ABOUT_LS)
    ls.add_argument("--lane", choices=[lane.value for lane in Lane], help="default: both")
    add_browsing(ls, BoxKind.RESTING)
