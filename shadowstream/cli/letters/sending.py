"""``replay`` and ``drain``: ask first, send, stop when asked to, say how far it came."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING

from shadowstream.cli.letters.options import add_topic
from shadowstream.cli.options import settings_in_force, settings_of, write
from shadowstream.config.fields import WrongValueError, rate
from shadowstream.errors import SetupError
from shadowstream.kafka.letters import BoxKind, Ending, Fate, Orders, Replay, box_of, selection_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from shadowstream.kafka.letters import Box, Tally

__all__ = ["add_sending"]

NOT_ALL_EXIT, INTERRUPTED_EXIT = 1, 130
TOLD_EVERY_S = 1.0

REASONS = MappingProxyType(
    {
        "unmarked": "a letter of shadow without a mark is never sent as a real one; a copy is in the quarantine",
        "misrouted": "a marked letter among real ones is never sent; a copy is in the quarantine",
        "wrong_lane": "whoever set it aside was in the other lane; a copy is in the quarantine",
        "foreign_topic": "it says that it came from another topic; it stays where it is",
        "left_out": "the copy had to go without its value; its headers say where the message itself lies",
    }
)
OTHERS = MappingProxyType(
    {
        Fate.QUARANTINED: "its mark cannot be trusted; a copy is in the quarantine",
        Fate.REFUSED: "the broker does not take it; it stays where it is",
    }
)


def add_sending(parser: argparse.ArgumentParser, kind: BoxKind) -> None:
    """Add what ``replay`` and ``drain`` are told."""
    add_topic(parser)
    parser.add_argument("--rate", default="50/s", metavar="RATE", help="at most so many: 50/s, 600/m (default: 50/s)")
    parser.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="WHAT",
        help="EXCEPTION, key=KEY, run=RUN, offset=FIRST-LAST or offset=PARTITION:FIRST-LAST; twice: both must hold",
    )
    parser.add_argument(
        "--command", metavar="NAME", help="whose shadow limits apply where a letter names none (default: the topic's)"
    )
    parser.add_argument("--again", action="store_true", help="also what an earlier one has answered for")
    parser.add_argument("--dry-run", action="store_true", help="judge and count; send nothing, remember nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask first")
    parser.set_defaults(run=_send, kind=kind)


def _send(args: argparse.Namespace) -> int:
    """Send letters back, and say how far it came."""
    lane = Lane.SHADOW if args.kind is BoxKind.PARKED else Lane(args.lane)
    settings = settings_in_force(args) if lane is Lane.SHADOW else settings_of(args)
    orders = Orders(selection_of(args.match), _rate(args.rate), args.command, args.again, args.dry_run)
    box = box_of(settings, args.topic, args.kind, lane)
    with Replay(settings, box, orders) as replay:
        if not replay.waiting:
            write(f"nothing to do: no letters in {box.place} that are not answered for (--again sends those too)")
            return NOT_ALL_EXIT
        if not (args.dry_run or args.yes or _agreed(args, box, replay.waiting)):
            write("nothing was sent")
            return NOT_ALL_EXIT
        with _stopping() as stopping:
            tally = replay.run(stopping, _Progress(replay.waiting).told)
    write(_how_far(args, box, tally))
    if tally.ending is Ending.INTERRUPTED:
        return INTERRUPTED_EXIT
    return 0 if tally.sent and not tally.not_sent and tally.ending is Ending.DONE else NOT_ALL_EXIT


def _rate(text: str) -> float:
    try:
        per_s = rate(text)
    except WrongValueError as error:
        raise SetupError(f"--rate {text!r}: write 50/s, 600/m or a bare number per second") from error
    if per_s <= 0:
        raise SetupError(f"--rate {text!r} lets nothing through; write a rate above 0, such as 50/s")
    return per_s


def _agreed(args: argparse.Namespace, box: Box, waiting: int) -> bool:
    which = f", those that match {' and '.join(args.match)}" if args.match else ""
    question = (
        f"Send up to {waiting} letters of {box.place}{which} back to {box.source}, in the {box.lane} lane, at most"
        f" {args.rate}?"
    )
    if not sys.stdin.isatty():
        raise SetupError(f"{question} Nobody is here to be asked: say --yes, or look with --dry-run first")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextmanager
def _stopping() -> Iterator[Event]:
    """Set an event at the first Ctrl-C or SIGTERM; the second one ends at once."""
    stopping = Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        stopping.set()
        sys.stderr.write("shadowstream: waiting for what is on its way; once more ends at once\n")
        signal.signal(number, signal.default_int_handler)

    for each in before:
        signal.signal(each, stop)
    try:
        yield stopping
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Progress:
    """Says about once a second how far a replay is."""

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._next_at = time.monotonic() + TOLD_EVERY_S

    def told(self, tally: Tally) -> None:
        """Say it, unless it was said a moment ago."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + TOLD_EVERY_S
        sys.stderr.write(f"shadowstream: {tally.sent} sent, {tally.not_sent} not, of up to {self._waiting}\n")


def _how_far(args: argparse.Namespace, box: Box, tally: Tally) -> str:
    done = "would send" if args.dry_run else "sent"
    parts = [f"{done} {tally.sent} back to {box.source} in the {box.lane} lane"]
    parts += [f"{count} {fate}" for fate, count in sorted(tally.fates.items()) if fate != "sent"]
    parts += [f"{tally.left} left out by --match"] if args.match else []
    parts += [f"{tally.known} answered for by an earlier one"] if tally.known else []
    lines = [f"{box.place}: {', '.join(parts)}"]
    lines += [
        f"  {count} {reason}: {REASONS.get(reason, OTHERS[fate])}"
        for (fate, reason), count in sorted(tally.reasons.items())
    ]
    if ending := _ending(box, tally):
        lines.append(ending)
    return "\n".join(lines)


def _ending(box: Box, tally: Tally) -> str:
    match tally.ending:
        case Ending.INTERRUPTED:
            return "interrupted: what was delivered is remembered, the same command goes on from there"
        case Ending.CLOSED:
            return (
                f"shadow's gate lets nothing through ({tally.refused_by}): raise its limit under `rate_limit:` (or"
                f" `default_rate_limit:`) for {box.topic} or its command, see `config explain ... --lane shadow`"
            )
        case Ending.FULL:
            return (
                "too many letters lie unanswered between answered ones to remember more of them: replay those too"
                " (without --match), or choose long stretches with --match offset=FIRST-LAST"
            )
        case _:
            return ""
