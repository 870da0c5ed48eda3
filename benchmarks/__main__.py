"""The command: run what was asked for, print the table, write the JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.ground import Ground, machine, say
from benchmarks.options import Options
from benchmarks.peers.sides import OURS, SIDES
from benchmarks.picture import drawn
from benchmarks.rows import ROWS, described
from containers.kafka import KafkaContainer

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = f"""Measure what shadowstream costs, against the raw client and other consumers, on a Kafka broker of its own.

{described()}

--rows chooses some, by letter or by name: --rows a,drain,io. --sides chooses whom the drain, io and burn rows compare
us with: {", ".join(name for name in SIDES if name != OURS)}. Each peer gets an environment of its own
from benchmarks/peers/locks, made once and kept in the cache folder.

The broker starts and ends by itself, in a container. The table goes to stdout, progress to stderr, everything measured
to JSON. Sides take turns in fresh processes, and each ratio comes with its own noise: the same side measured against
itself. A control marked TOO NOISY means that the machine was too busy to compare anything: run it on a quiet one.

  python -m benchmarks                           all rows, about an hour, writes benchmarks/results/
  python -m benchmarks --quick                   about ten minutes, writes nothing: does it run at all?
  python -m benchmarks --rows drain,burn --sides aiokafka,raw
  python -m benchmarks --rows a,d --json out.json
  python -m benchmarks --picture                 draws benchmarks/results/picture.svg from the JSON, no broker

Exit codes: 0 every target reached, 1 some were missed, 2 wrong usage, 130 interrupted. With --quick a missed target is
no failure: the runs are too short to mean anything."""
RESULTS: Final = Path(__file__).with_name("results")
SLOWER: Final = {"group.initial.rebalance.delay.ms": "0", "log.retention.check.interval.ms": "3600000"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit code."""
    args = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.picture:
        return drawn(RESULTS)
    began = time.monotonic()
    try:
        results = measured(args.rows, options_of(args))
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(table(results))
    sys.stdout.flush()
    target = args.json or (None if args.quick else RESULTS)
    if target is not None:
        written(results, target)
    say(f"done in {time.monotonic() - began:.0f} s")
    missed = any(row["reached"] is False for result in results.values() for row in result["rows"])
    return int(missed and not args.quick)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--rows", "--only", type=chosen, default=",".join(ROWS), metavar="a,b,...", help="which ones; default: all")
    add("--sides", type=sides, default=(), metavar="raw,...", help="whom to compare with; default: everyone")
    add("--quick", action="store_true", help="a smoke run: short, few rounds, figures mean little")
    add("--rounds", type=int, metavar="N", help="how often sides take turns; default: each row's own number")
    add("--scale", type=float, default=1.0, metavar="X", help="times the messages of drain, io and burn; default: 1")
    add(
        "--zipf", type=float, default=1.0, metavar="S", help="exponent of the keys' distribution (io, burn); default: 1"
    )
    add("--huge", action="store_true", help="memory: ten million messages ahead, too (4 GB of log)")
    add("--picture", action="store_true", help="draw the committed results, measure nothing")
    made.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="a .json file for all, or a folder for one file each; default: benchmarks/results, none with --quick",
    )
    return made


def chosen(text: str) -> str:
    """Read which benchmarks are asked for, by letter or by name."""
    letters = {row.name: letter for letter, row in ROWS.items()} | {letter: letter for letter in ROWS}
    asked = [each.strip().lower() for each in text.split(",")]
    if unknown := [each for each in asked if each not in letters]:
        known = ", ".join(f"{letter} ({row.name})" for letter, row in ROWS.items())
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: name some of {known}, with commas between")
    return "".join(sorted({letters[each] for each in asked}))


def sides(text: str) -> tuple[str, ...]:
    """Read whom to compare with."""
    asked = tuple(each.strip().lower() for each in text.split(","))
    if unknown := [each for each in asked if each not in SIDES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: name some of {', '.join(SIDES)}, with commas between")
    return asked


def options_of(args: argparse.Namespace) -> Options:
    """Return what the rows need to know of the command line."""
    return Options(
        quick=args.quick,
        rounds=args.rounds,
        scale=args.scale,
        zipf=args.zipf,
        sides=args.sides,
        huge=args.huge,
    )


def measured(letters: str, options: Options) -> dict[str, dict[str, Any]]:
    """Run what was asked for; a broker is started only for those that need one."""
    if letters == "d":
        return {"d": result("d", None, options)}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        # Docker's port proxy would cost each byte a copy that no broker of yours does.
        broker = KafkaContainer(host_network=sys.platform == "linux", heap_mb=1024, settings=SLOWER)
        with broker:
            ground = Ground(broker, Path(folder))
            return {letter: result(letter, ground, options) for letter in letters}


def result(letter: str, ground: Ground | None, options: Options) -> dict[str, Any]:
    """Run one benchmark and return all that is to be written of it."""
    facts, began = machine(ground.broker.image if ground else None), time.monotonic()
    rows, details = ROWS[letter].measured(ground, options)
    return {
        "benchmark": f"{letter}: {ROWS[letter].name}",
        "quick": options.quick,
        "machine": facts,
        "seconds": round(time.monotonic() - began, 1),
        "rows": [row.as_json() for row in rows],
        "details": details,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as plain text."""
    lines = [f"{'':2} {'':44} {'measured':>12} {'unit':9} {'wanted':>10}  {'reached':8} range over rounds"]
    for letter, found in results.items():
        for row in found["rows"]:
            sign = ">=" if row["sense"] == "at least" else "<="
            wanted = "-" if row["wanted"] is None else f"{sign} {row['wanted']:g}"
            reached = {None: "-", True: "yes", False: "NO"}[row["reached"]]
            value = f"{row['value']:,.0f}" if abs(row["value"]) >= 1000 else f"{row['value']:.3g}"
            line = f"{letter:2} {row['name']:44} {value:>12} {row['unit']:9} {wanted:>10}  {reached:8} {ranged(row)}"
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def ranged(row: dict[str, Any]) -> str:
    """Return how far the rounds lie apart, and whether that is too far."""
    spread = row["spread"]
    if spread is None:
        return ""
    return f"{spread['low']:,.4g} .. {spread['high']:,.4g}{'  TOO NOISY to trust' if row['noisy'] else ''}"


def written(results: dict[str, dict[str, Any]], target: Path) -> None:
    """Write one file for each result, or one for all when the target is a .json file."""
    documents: dict[Path, object] = {target: results}
    if target.suffix != ".json":
        documents = {target / f"{letter}-{ROWS[letter].name}.json": found for letter, found in results.items()}
    for path, document in documents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2, default=plain) + "\n", encoding="utf-8")
        say(f"wrote {path}")


def plain(value: object) -> object:
    """Turn a dataclass inside the details into what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} is nothing for JSON")


if __name__ == "__main__":
    sys.exit(main())
