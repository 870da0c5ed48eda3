"""``shadowstream token new|inspect|rotate``: marks by hand, and the keys that they are signed with."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shadowstream.cli.fleet.runs import run_id, seconds
from shadowstream.cli.options import DEFAULT_FILE, described, settings_of, write
from shadowstream.errors import SetupError
from shadowstream.headers import KEY_ID, Kind, MarkReader, MarkWriter
from shadowstream.lane import Mark

if TYPE_CHECKING:
    from shadowstream.config import MarkSettings
    from shadowstream.headers import Reading

__all__ = ["add_parser"]

NOT_BELIEVED_EXIT = 1
SECRET_BYTES: Final = 32

ABOUT = """Write a mark by hand, look at one, or turn to another signing key."""

ABOUT_NEW = """Write a mark for a run, for whoever starts shadow traffic by hand. The first key of `mark.keys` signs it.

    curl -H "X-Shadow: $(shadowstream token new fcst-1111 --for 10m)" http://edge/claim ...

It is good for anything that is sent until it expires, so do not keep it.

Exit codes: 0 written, 2 wrong usage or set-up."""

ABOUT_INSPECT = """Say what a mark is, and whether this service believes it.

Without VALUE it is read from the standard input, which keeps it out of the shell's history.

    shadowstream token inspect < mark.txt
    shadowstream token inspect '1;run=fcst-1111;exp=1795480000' --json

Exit codes: 0 it is believed, 1 it is not, 2 wrong usage or set-up."""

ABOUT_ROTATE = """Make a new signing key, and say in which steps all services turn to it. No process needs a restart.

    shadowstream token rotate k2 --to /run/secrets/k2

The secret is written to that file and shown nowhere. Exit codes: 0 written, 2 wrong usage or set-up, or the file is
there already."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    token = described(commands, "token", "write or look at a mark, or make a signing key", ABOUT)
    verbs = token.add_subparsers(title="verbs", required=True, metavar="VERB")
    new = described(verbs, "new", "write a mark for a run", ABOUT_NEW)
    new.add_argument("name", metavar="RUN", type=run_id, help="the run's id: 1 to 40 of a-z, 0-9 and '-'")
    new.add_argument("--for", dest="seconds", type=seconds, metavar="10m", help="default: mark.max_age")
    inspect = described(verbs, "inspect", "say what a mark is", ABOUT_INSPECT)
    inspect.add_argument("value", metavar="VALUE", nargs="?", default="-", help="default: the standard input")
    rotate = described(verbs, "rotate", "make a new signing key", ABOUT_ROTATE)
    rotate.add_argument("id", metavar="ID", type=key_id, help="the new key's id: 1 to 32 letters, digits and ._-")
    rotate.add_argument("--to", type=Path, required=True, metavar="FILE", help="where the secret goes")
    for parser, does in ((new, _new), (inspect, _inspect), (rotate, _rotate)):
        parser.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(run=does)


def key_id(text: str) -> str:
    """Read a key's id."""
    if not KEY_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no key id: 1 to 32 letters, digits and ._-")
    return text


def _new(args: argparse.Namespace) -> int:
    mark, now = settings_of(args).mark, time.time()
    wanted_s = mark.max_age_s if args.seconds is None else args.seconds
    if wanted_s > mark.max_age_s:
        raise SetupError(
            f"nobody believes a mark for {wanted_s:g} s: mark.max_age is {mark.max_age_s:g} s; write a new one in time"
        )
    expires_at = int(now + wanted_s)
    value = MarkWriter.of(mark).onward(Mark(run=args.name, expires_at=expires_at), now).decode()
    if not mark.keys:
        sys.stderr.write("shadowstream: the mark is not signed, for `mark: {keys: [...]}` has no keys\n")
    if args.json:
        value = json.dumps({"header": mark.header, "value": value, "run": args.name, "expires_at": expires_at})
    write(value)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    mark, now = settings_of(args).mark, time.time()
    given = sys.stdin.read() if args.value == "-" else args.value
    reading = MarkReader.of(mark).read_value(given.strip().encode(errors="replace"), now)
    found = _found(reading, now)
    write(json.dumps(found) if args.json else "\n".join(f"{name:9}{value}" for name, value in _lines(found)))
    return 0 if reading.kind is Kind.SHADOW else NOT_BELIEVED_EXIT


def _found(reading: Reading, now: float) -> dict[str, object]:
    found: dict[str, object] = {"verdict": reading.kind.value, "reason": reading.reason or None}
    if (mark := reading.mark) is not None:
        left_s = None if mark.expires_at is None else round(mark.expires_at - now)
        found |= {"run": mark.run, "expires_at": mark.expires_at, "left_s": left_s, "hop": mark.hop, "key": mark.key_id}
    return found


def _lines(found: dict[str, object]) -> list[tuple[str, object]]:
    reason = f" ({found['reason']})" if found["reason"] else ""
    lines: list[tuple[str, object]] = [("verdict", f"{found['verdict']}{reason}")]
    if "run" in found:
        expires_at, left_s = found["expires_at"], found["left_s"]
        when = "never"
        if isinstance(expires_at, int) and isinstance(left_s, int):
            told = f"in {left_s} s" if left_s >= 0 else f"{-left_s} s ago"
            when = f"{datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC, {told}"
        lines += [("run", found["run"] or "none (a bare mark)"), ("expires", when), ("hop", found["hop"])]
        lines += [("key", found["key"] or "none: it is not signed")]
    return lines


def _rotate(args: argparse.Namespace) -> int:
    mark = settings_of(args).mark
    if args.id in {key.id for key in mark.keys}:
        raise SetupError(f"there is a key {args.id!r} already; a new one needs an id of its own")
    _write_secret(args.to)
    steps = _steps(mark, args.id, args.to)
    if args.json:
        write(json.dumps({"id": args.id, "file": str(args.to), "steps": steps}))
    else:
        write(f"wrote {SECRET_BYTES} random bytes in base64 to {args.to}, for this user only\n")
        for number, step in enumerate(steps, 1):
            write(f"{number}. {step}")
    return 0


def _write_secret(path: Path) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}; name a new file in a folder that is there") from error
    with os.fdopen(file, "wb") as secret:
        secret.write(b64encode(secrets.token_bytes(SECRET_BYTES)) + b"\n")


def _steps(mark: MarkSettings, new_id: str, path: Path) -> list[str]:
    old = [_spelled(key.id, key.path) for key in mark.keys]
    new = _spelled(new_id, path)
    last, first = ", ".join([*old, new]), ", ".join([new, *old])
    if not old:
        return [f"Give that file to every service, and write there: mark: {{keys: [{new}]}}"]
    return [
        f"Give that file to every service, and add the key last, so that it is verified: mark: {{keys: [{last}]}}",
        f"When each has logged `keys_changed`, put it first, so that it signs: mark: {{keys: [{first}]}}",
        f"After {mark.max_age_s:g} s (mark.max_age) nothing signed with the others is believed any more: remove them.",
    ]


def _spelled(name: str, path: Path | None) -> str:
    return f"{{id: {name}, secret_env: ...}}" if path is None else f"{{id: {name}, secret_file: {path}}}"
