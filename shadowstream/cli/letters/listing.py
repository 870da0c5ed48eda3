"""``ls``: a table for people, JSON lines for machines, and at the end what set the letters aside."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from shadowstream.cli.letters.options import add_topic
from shadowstream.cli.options import settings_of, write
from shadowstream.config.fields import WrongValueError, duration
from shadowstream.errors import SetupError
from shadowstream.headers import Kind
from shadowstream.kafka.letters import BoxKind, boxes_of, browse
from shadowstream.lane import Lane

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from shadowstream.kafka.letters import Box, Found, Letter

__all__ = ["add_browsing"]

NONE_EXIT = 1
ROWS = 100
LONGEST_CELL = 60
COLUMNS = ("PLACE", "LANE", "RUN", "FROM", "WRITTEN", "KEY", "TRIES", "ROUND", "WHY", "MESSAGE", "BY")


def add_browsing(parser: argparse.ArgumentParser, kind: BoxKind) -> None:
    """Add what ``ls`` is told."""
    add_topic(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, then one with the summary")
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"show the N oldest (default: {ROWS}; with --json all); all are counted"
    )
    parser.add_argument("--since", metavar="WHEN", help="a duration ago (2h, 1d) or a time (2026-11-24T10:00+01:00)")
    parser.set_defaults(run=_browse, kind=kind)


def _browse(args: argparse.Namespace) -> int:
    """List letters, and return 1 when there are none."""
    if args.limit is not None and args.limit < 0:
        raise SetupError(f"--limit {args.limit}: write how many letters to show, 0 for the summary alone")
    settings, lane = settings_of(args), Lane(args.lane) if args.lane else None
    boxes = boxes_of(settings, args.topic, args.kind, lane)
    if lane is None and settings.shadow is None:
        sys.stderr.write("shadowstream: the shadow lane is off (see config check), so only normal's are listed\n")
    found = browse(settings, boxes, _since_ms(args.since))
    summary = Counter[str]()
    if args.json:
        _write_lines(_counted(found, summary), args.limit)
        write(json.dumps({"summary": _summary_of(summary)}))
    else:
        limit = ROWS if args.limit is None else args.limit
        counted = _counted(found, summary)
        _write_table([*islice(counted, limit)])
        for _ in counted:
            pass
        _write_summary(args, boxes, summary, limit)
    return 0 if summary["letters"] else NONE_EXIT


def _since_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int((time.time() - duration(text)) * 1000)
    except WrongValueError:
        pass
    try:
        # A time without a zone is this machine's, as everywhere on a command line.
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise SetupError(
            f"--since {text!r}: write a duration ago (30m, 2h, 1d) or a time (2026-11-24T10:00+01:00)"
        ) from error


def _counted(found: Iterable[Found], summary: Counter[str]) -> Iterator[Found]:
    """Pass letters on and count them: ``why `` before what set them aside."""
    for each in found:
        told = ("letters", f"why {_why(each.letter)}", each.answered and "answered", each.mark.kind)
        summary.update(filter(None, map(str, filter(None, told))))
        yield each


def _why(letter: Letter) -> str:
    story = letter.story
    told = story.cause or story.exception or story.reason
    return told or ("unreadable headers" if letter.headers is None else "unknown")


def _summary_of(summary: Counter[str]) -> dict[str, object]:
    by = {name.removeprefix("why "): count for name, count in summary.most_common() if name.startswith("why ")}
    return {"letters": summary["letters"], "by": by, "answered": summary["answered"], "expired": summary[Kind.EXPIRED]}


def _write_lines(found: Iterable[Found], limit: int | None) -> None:
    for number, each in enumerate(found):
        if limit is None or number < limit:
            write(json.dumps(_as_json(each)))


def _as_json(found: Found) -> dict[str, object]:
    letter, story, mark = found.letter, found.letter.story, found.mark.mark
    return {
        "topic": letter.box.place,
        "partition": letter.partition,
        "offset": letter.offset,
        "lane": letter.box.lane.value,
        "run": mark.run if mark else None,
        "mark": found.mark.kind.value,
        "mark_reason": found.mark.reason or None,
        "original": {
            "topic": story.topic,
            "partition": story.partition,
            "offset": story.offset,
            "timestamp_ms": story.timestamp_ms,
            "group": story.group,
        },
        **_key(letter.raw.key()),
        "exception": story.exception,
        "cause": story.cause,
        "message": story.message,
        "reason": story.reason,
        "attempts": story.attempts,
        "rounds": story.rounds,
        "due_ms": story.due_ms,
        "first_failed_ms": story.first_failed_ms,
        "failed_at_ms": story.failed_at_ms,
        "command": story.command,
        "client": story.client,
        "trace": story.at,
        "replayed": story.replayed,
        "answered": found.answered,
    }


def _key(key: bytes | None) -> dict[str, str | None]:
    """Give a key that is no text in base64 besides, so that nobody has to guess its bytes."""
    if key is None:
        return {"key": None}
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key": key.decode(errors="backslashreplace"), "key_base64": base64.b64encode(key).decode()}


def _write_table(found: list[Found]) -> None:
    """Write the letters below each other, and under each where it failed."""
    if not found:
        return
    rows = [COLUMNS, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        at = found[number - 1].letter.story.at if number else None
        if at:
            write(f"    {shown(at)}")


def _row(found: Found) -> tuple[str, ...]:
    letter, story = found.letter, found.letter.story
    mark = found.mark
    run = (mark.mark.run or "(bare)") if mark.mark else mark.reason or "-"
    if mark.kind is Kind.EXPIRED:
        run += " (expired)"
    known = story.topic is not None and story.partition is not None and story.offset is not None
    return (
        letter.place + (" (answered)" if found.answered else ""),
        letter.box.lane.value,
        shown(run),
        shown(f"{story.topic}[{story.partition}]@{story.offset}") if known else "?",
        _time(letter.timestamp_ms),
        "-" if letter.raw.key() is None else shown((letter.raw.key() or b"").decode(errors="backslashreplace")),
        "?" if story.attempts is None else str(story.attempts),
        f"{story.rounds}" + (f" due {_time(story.due_ms)}" if story.due_ms else ""),
        shown(_why(letter)),
        shown(story.message or ""),
        shown(story.client or "?"),
    )


def shown(text: str) -> str:
    """Cut a text to a cell, and show what a terminal would obey instead of letting it."""
    cut = text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)


def _time(milliseconds: int) -> str:
    try:
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if milliseconds else "?"


def _write_summary(args: argparse.Namespace, boxes: list[Box], summary: Counter[str], limit: int) -> None:
    letters = summary["letters"]
    if not letters:
        write(f"no letters in {' or '.join(box.place for box in boxes)}" + (" since then" if args.since else ""))
        return
    if letters > limit:
        write(f"... and {letters - limit} more; --limit {letters} shows them all")
    told = _summary_of(summary)
    by = "the worker" if args.kind is BoxKind.RESTING else "earlier replays"
    write(f"\n{letters} letters, {told['answered']} answered for by {by}, {told['expired']} expired")
    for name, count in summary.most_common():
        if name.startswith("why "):
            write(f"{count:>8}  {shown(name.removeprefix('why '))}")
