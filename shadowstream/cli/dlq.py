"""``shadowstream dlq``: read dead letters, and send them back in their lane."""

from __future__ import annotations

from typing import Any

from shadowstream.cli.letters import add_browsing, add_sending
from shadowstream.cli.options import described
from shadowstream.kafka.letters import BoxKind
from shadowstream.lane import Lane

__all__ = ["add_parser"]

ABOUT = """Read the messages that a handler could not handle, and send them back once the fault is mended.

    shadowstream dlq ls voucher.claimed
    shadowstream dlq replay voucher.claimed --match LookupError --dry-run

Dead letters of TOPIC lie in TOPIC.dlq (normal lane) and TOPIC.shadow.dlq (shadow lane)."""

ABOUT_LS = """List dead letters, oldest first: where each lies and came from, whose it is, what was raised and where.

It joins no group, moves nothing, and reads up to what is there when it starts. PLACE is partition:offset in the
dead-letter topic, as --match offset=... takes it; (answered) says that an earlier replay has dealt with it.

    shadowstream dlq ls voucher.claimed                          # both lanes
    shadowstream dlq ls voucher.claimed --lane shadow --since 2h
    shadowstream dlq ls voucher.claimed --json | jq -r 'select(.exception) | .original.offset'

With --json each line is one letter; the last line is {"summary": {"letters": ..., "by": {CLASS: COUNT}, ...}}.
Exit codes: 0 listed, 1 there are none, 2 wrong usage or set-up, 3 the brokers failed us or the topic is not there."""

ABOUT_REPLAY = """Send dead letters back to the topic that they came from, each in its lane.

Key, value, timestamp, headers and mark go back as they were; what was added when they were set aside is taken off, and
`shadowstream-replayed: N` says how often it was done. A letter of shadow passes shadow's own rate limit besides --rate
(a limit of this process: the worker's own stands behind it), and one whose run is over is not sent. A letter that is
not plainly of its lane is never sent: a copy goes to TOPIC.quarantine.

    shadowstream dlq replay voucher.claimed --dry-run            # what would happen
    shadowstream dlq replay voucher.claimed --match LookupError --rate 20/s
    shadowstream dlq replay voucher.claimed --match offset=0:120-180 --yes
    shadowstream dlq replay voucher.claimed --lane shadow --command voucher.dispatch

What is dealt with is remembered in a consumer group, GROUP.replay, so the same command sends nothing twice unless you
say --again; run one at a time. Brokers forget a group after `offsets.retention.minutes` without a commit (7 days).
Ctrl-C waits for what is on its way, remembers it and says how far it came.

Exit codes: 0 all sent, 1 nothing to do, or some letters could not be sent (expired, quarantined, refused), or shadow's
gate is closed, 2 wrong usage or set-up, 3 the brokers failed us or a topic is not there, 130 interrupted."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    actions = described(commands, "dlq", "list dead letters, or send them back", ABOUT).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    lanes = [lane.value for lane in Lane]
    ls = described(actions, "ls", "list dead letters", ABOUT_LS)
    ls.add_argument("--lane", choices=lanes, help="default: both")
    add_browsing(ls, BoxKind.DEAD)
    replay = described(actions, "replay", "send dead letters back to where they came from", ABOUT_REPLAY)
    replay.add_argument("--lane", choices=lanes, default=Lane.NORMAL.value, help="default: normal")
    add_sending(replay, BoxKind.DEAD)
