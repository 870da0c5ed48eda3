"""``shadowstream parked``: read shadow messages that were kept for later, and let them go on."""

from __future__ import annotations

from typing import Any

from shadowstream.cli.letters import add_browsing, add_sending
from shadowstream.cli.options import described
from shadowstream.kafka.letters import BoxKind
from shadowstream.lane import Lane

__all__ = ["add_parser"]

ABOUT = """Read the shadow messages that the gate refused where `on_limit: park` keeps them, and let them go on.

    shadowstream parked ls voucher.claimed
    shadowstream parked drain voucher.claimed --rate 100/s

Parked messages of TOPIC lie in TOPIC.shadow.parked; a normal message is never parked."""

ABOUT_LS = """List parked messages, oldest first: where each lies and came from, its run, and why it was parked.

It joins no group, moves nothing, and reads up to what is there when it starts.

    shadowstream parked ls voucher.claimed
    shadowstream parked ls voucher.claimed --json --since 2h

With --json each line is one message; the last line is the summary.
Exit codes: 0 listed, 1 there are none, 2 wrong usage or set-up, 3 the brokers failed us or the topic is not there."""

ABOUT_DRAIN = """Send parked messages back to where the shadow lane reads, so that its cursor handles them.

Each goes back with its mark, byte for byte, through shadow's own rate limit besides --rate; on a shared topic the
normal cursor steps over it. One whose run is over is stepped over and counted. It ends at what was parked when it
began: what the worker parks again meanwhile is for the next time.

    shadowstream parked drain voucher.claimed --dry-run
    shadowstream parked drain voucher.claimed --rate 100/s --yes
    shadowstream parked drain voucher.claimed --match run=fcst-1111 --command voucher.dispatch

What is dealt with is remembered in the consumer group SHADOW-GROUP.replay, so the same command sends nothing twice
unless you say --again; run one at a time. Ctrl-C waits for what is on its way, remembers it and says how far it came.

Exit codes: 0 all sent, 1 nothing to do, or some could not be sent (expired, quarantined, refused), or shadow's gate is
closed, 2 wrong usage or set-up, 3 the brokers failed us or a topic is not there, 130 interrupted."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    actions = described(commands, "parked", "list parked shadow messages, or let them go on", ABOUT).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    ls = described(actions, "ls", "list parked messages", ABOUT_LS)
    add_browsing(ls, BoxKind.PARKED)
    ls.set_defaults(lane=Lane.SHADOW.value)
    drain = described(actions, "drain", "send parked messages back to the shadow lane", ABOUT_DRAIN)
    add_sending(drain, BoxKind.PARKED)
