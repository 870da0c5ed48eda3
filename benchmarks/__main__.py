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

from benchmarks import gates, latency, produce, throughput
from benchmarks.figures import Row
from benchmarks.ground import Ground, machine, say
from containers.kafka import KafkaContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Measured = tuple[list[Row], dict[str, object]]

ABOUT = """Measure what shadowstream costs against the raw client, on a real Kafka broker of its own.

  a  worker throughput: the normal lane with a no-op handler against a raw consume loop       wanted >= 0.80
  b  producer throughput: stamping a signed mark against a raw static header                  wanted >= 0.90
  c  normal latency: p99 under a 50x shadow flood with a stuck shadow handler, by flood-free  wanted <= 1.2
  d  one gate decision: full shadow chain wanted <= 5 us, normal's open gate wanted <= 0.5 us

The broker starts and ends by itself, in a container. The table goes to stdout, progress to stderr, everything measured
to JSON. Sides take turns in fresh processes, and each ratio comes with its own noise: the same side measured against
itself. A control marked TOO NOISY means that the machine was too busy to compare anything: run it on a quiet one.

  python -m benchmarks                           about ten minutes, writes benchmarks/results/
  python -m benchmarks --quick                   about a minute and a half, writes nothing: does it run at all?
  python -m benchmarks --only a,d --json out.json

Exit codes: 0 every target reached, 1 some were missed, 2 wrong usage, 130 interrupted. With --quick a missed target is
no failure: the runs are too short to mean anything."""
RESULTS: Final = Path(__file__).with_name("results")
NAMES: Final = {"a": "worker", "b": "producer", "c": "flood", "d": "gates"}
SLOWER: Final = {"group.initial.rebalance.delay.ms": "0", "log.retention.check.interval.ms": "3600000"}


def decisions(_ground: Ground | None, *, quick: bool) -> Measured:
    """Measure (d), which needs no broker and has one length only."""
    say(f"(d) gate decisions{', at full length' if quick else ''}")
    found = gates.measured()
    figures: Any = found["ns_per_decision"]
    wanted = {"chain": 5000.0, "open": 500.0}
    named = {"chain": "full shadow chain", "open": "normal: the open gate"}
    rows = [Row(named.get(kind, kind), ns, "ns", wanted.get(kind), "at most") for kind, ns in figures.items()]
    return rows, found


PARTS: Final[dict[str, Callable[..., Measured]]] = {
    "a": throughput.measured,
    "b": produce.measured,
    "c": latency.measured,
    "d": decisions,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit code."""
    args = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        results = measured(args.only, quick=args.quick)
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
    made.add_argument("--only", type=chosen, default="abcd", metavar="a,b,c,d", help="which ones; default: all")
    made.add_argument("--quick", action="store_true", help="a smoke run: short, few rounds, figures mean little")
    made.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="a .json file for all, or a folder for one file each; default: benchmarks/results, none with --quick",
    )
    return made


def chosen(text: str) -> str:
    """Read which benchmarks are asked for."""
    letters = text.replace(",", "").replace(" ", "").lower()
    if not letters or set(letters) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{text!r}: name some of {', '.join(PARTS)}, with commas between")
    return "".join(sorted(set(letters)))


def measured(letters: str, *, quick: bool) -> dict[str, dict[str, Any]]:
    """Run what was asked for; a broker is started only for those that need one."""
    if letters == "d":
        return {"d": result("d", None, None, quick=quick)}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        # Docker's port proxy would cost each byte a copy that no broker of yours does.
        broker = KafkaContainer(host_network=sys.platform == "linux", heap_mb=1024, settings=SLOWER)
        with broker:
            ground = Ground(broker, Path(folder))
            return {letter: result(letter, ground, broker.image, quick=quick) for letter in letters}


def result(letter: str, ground: Ground | None, image: str | None, *, quick: bool) -> dict[str, Any]:
    """Run one benchmark and return all that is to be written of it."""
    facts, began = machine(image), time.monotonic()
    rows, details = PARTS[letter](ground, quick=quick)
    return {
        "benchmark": f"{letter}: {NAMES[letter]}",
        "quick": quick,
        "machine": facts,
        "seconds": round(time.monotonic() - began, 1),
        "rows": [row.as_json() for row in rows],
        "details": details,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as plain text."""
    lines = [f"{'':2} {'':40} {'measured':>12} {'unit':9} {'wanted':>10}  {'reached':8} range over rounds"]
    for letter, found in results.items():
        for row in found["rows"]:
            sign = ">=" if row["sense"] == "at least" else "<="
            wanted = "-" if row["wanted"] is None else f"{sign} {row['wanted']:g}"
            reached = {None: "-", True: "yes", False: "NO"}[row["reached"]]
            value = f"{row['value']:,.0f}" if abs(row["value"]) >= 1000 else f"{row['value']:.3g}"
            line = f"{letter:2} {row['name']:40} {value:>12} {row['unit']:9} {wanted:>10}  {reached:8} {ranged(row)}"
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
        documents = {target / f"{letter}-{NAMES[letter]}.json": found for letter, found in results.items()}
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
