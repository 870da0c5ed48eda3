"""``shadowstream limit``: lays limits over every shadow process's configuration, while a test runs."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from shadowstream.cli.options import DEFAULT_FILE, default_file, described, settings_of, write
from shadowstream.config import differences, examine
from shadowstream.config.document import Findings, from_value
from shadowstream.config.fields import SECTIONS
from shadowstream.config.live.change import LIVE
from shadowstream.errors import ConfigError, SetupError
from shadowstream.gate.fleet import Layer, parsed
from shadowstream.lane import Lane

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from shadowstream.config import Settings

__all__ = ["add_parser"]

FASTER_EXIT = 1
Laid = dict[str, Any]

ABOUT = """Lay a limit over the shadow lane's configuration: every shadow process goes by it within a second.

The words are those of the configuration: a section, a rule's name where it has names, a field, its value. What can
change while a test runs: rate_limit, default_rate_limit, multi_key_rate_limit_v2 and resilience. Only shadow's part is
laid over: real traffic goes by its file alone. A change keeps what is known of the calls, and gives no burst. It stays
until it is removed, also over restarts, and a process that does not know it lets no run go on.

    shadowstream limit                                                  # what is laid over now
    shadowstream limit rate_limit voucher.claim hard 50/s
    shadowstream limit default_rate_limit hard_rate_limit 100/s
    shadowstream limit resilience voucher.claim max_concurrent 8
    shadowstream limit rate_limit voucher.claim hard --remove           # back to the file
    shadowstream limit --clear                                          # all of it

It needs `fleet: {url: ..., lease: true, live: true}`. What is wrong is refused here, and by each process besides.

Exit codes: 0 laid over, or told; 1 somebody else was faster: look and say it again; 2 wrong usage or set-up; 3 Redis
does not answer."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(commands, "limit", "lay a limit over shadow's, while a test runs", ABOUT)
    parser.add_argument("words", nargs="*", metavar="WORD", help="SECTION [NAME] FIELD VALUE")
    parser.add_argument("--remove", action="store_true", help="take SECTION [NAME] FIELD, or all below it, away again")
    parser.add_argument("--clear", action="store_true", help="take all of it away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what is asked for, and return the exit code."""
    settings = settings_of(args)
    fleet = settings.fleet
    if fleet is None or not fleet.live:
        raise SetupError("no process would hear of it; add `fleet: {url: redis://localhost:6379/0, live: true}`")
    layer = Layer(fleet)
    version, document = layer.read()
    laid = _readable(document, clearing=args.clear)
    if not (args.words or args.clear):
        return _show(laid, version, as_json=args.json)
    after = {} if args.clear else _changed(laid, args.words, removing=args.remove)
    told = _checked(args, laid, after)
    if not layer.write(after, version):
        write("somebody else was faster; nothing is changed, look and say it again")
        return FASTER_EXIT
    write(json.dumps({"changes": told}, default=str) if args.json else _lines(told))
    return 0


def _readable(document: str | None, *, clearing: bool) -> Laid:
    try:
        return dict(parsed(document) or {})
    except ValueError as error:
        if clearing:
            return {}
        raise SetupError(f"what is laid over cannot be read ({error}); run `shadowstream limit --clear`") from error


def _changed(laid: Laid, words: Sequence[str], *, removing: bool) -> Laid:
    """Return what is laid over when a field is set, or removed with all below it."""
    trail, value = _trail(words, removing=removing)
    after = deepcopy(laid)
    above = [after]
    for each in trail[:-1]:
        above.append(above[-1].setdefault(each, {}))
    if removing:
        if above[-1].pop(trail[-1], None) is None:
            raise SetupError(f"`{' '.join(words)}` is not laid over; see `shadowstream limit`")
        for parent, key in zip(reversed(above[:-1]), reversed(trail[:-1]), strict=True):
            if not parent[key]:
                del parent[key]
    else:
        above[-1][trail[-1]] = value
    return after


def _trail(words: Sequence[str], *, removing: bool) -> tuple[list[str], object]:
    """Return where in the document the words point to, and the value."""
    section = words[0]
    if section not in LIVE:
        raise SetupError(f"`{section}` cannot change while a test runs; use one of {', '.join(sorted(LIVE))}")
    whole = 2 + SECTIONS[section].named
    *trail, value = (*words, "") if removing else words
    if len(trail) != whole and not (removing and 1 <= len(trail) < whole):
        shape = "SECTION NAME FIELD" if SECTIONS[section].named else "SECTION FIELD"
        raise SetupError(f"{section!r} takes {shape}{'' if removing else ' VALUE'}; see `shadowstream limit --help`")
    return ["shadow", *trail], None if removing else _value(value)


def _value(text: str) -> object:
    """Read a value as the environment's are read."""
    findings = Findings()
    node = from_value(text, "VALUE", findings, "VALUE", Lane.SHADOW)
    if node is None:
        raise ConfigError(findings.of(Lane.SHADOW))
    return node.plain()


def _checked(args: argparse.Namespace, before: Laid, after: Laid) -> list[dict[str, object]]:
    """Return in what shadow's settings would differ.

    Raises:
        ConfigError: with what is to be laid over they are wrong.
    """
    sides: list[Settings] = []
    for laid in (before, after):
        found = examine(args.config or default_file(), live=laid or None)
        if found.settings is None or (found.problems and laid is after):
            raise ConfigError(found.problems)
        sides.append(found.settings)
    if sides[0].shadow is None:
        return []
    return [each._asdict() for each in differences(sides[0], sides[1], (Lane.SHADOW, Lane.SHADOW))]


def _show(laid: Laid, version: str, *, as_json: bool) -> int:
    if as_json:
        write(json.dumps({"version": version, "laid_over": laid}))
        return 0
    lines = [f"{' '.join(trail)}: {value}" for trail, value in _flat(laid.get("shadow", {}), ())]
    write("\n".join(lines) or "nothing is laid over")
    return 0


def _flat(value: object, trail: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict) and len(trail) < 3:  # noqa: PLR2004 - section, name, field
        return [each for key, below in value.items() for each in _flat(below, (*trail, key))]
    return [(trail, value)]


def _lines(told: list[dict[str, object]]) -> str:
    lines = [f"{each['key']}: {each['before']} -> {each['after']}" for each in told]
    return "\n".join(lines) or "nothing differs: it was so already"
