"""`python -m tests.chaos`: break a cluster and the workers on it by a seeded plan, and let Kafka say what came of it.

    make chaos             # ten seeds: 240 faults, a million normal messages
    make chaos SEED=7      # one seed again

What holds and what does not is written as a table, and as JSON with --json FILE or CHAOS_JSON=FILE. Exit code 1:
something does not hold. Journals and logs of a seed that does not hold stay where the last line says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.report import table
from tests.chaos.run import Size, run, say

SEEDS = range(1, 11)


def main() -> int:
    """Run the seeds that are asked for."""
    asked = _form().parse_args()
    seeds = SEEDS if asked.seed is None else [asked.seed]
    size = Size(asked.faults, asked.normal, asked.shadow, asked.members, asked.rate)
    verdicts = []
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        verdicts.append(run(seed, size, folder, asked.flaw))
        if verdicts[-1].violations:
            say(f"seed {seed} does not hold; journals and logs: {folder}; again: make chaos SEED={seed}")
        else:
            shutil.rmtree(folder)
        sys.stdout.write(table(verdicts) + "\n")
        if asked.json:
            Path(asked.json).write_text(json.dumps([each.document() for each in verdicts], indent=1) + "\n")
    return int(any(each.violations for each in verdicts))


def _form() -> argparse.ArgumentParser:
    usual = Size()
    form = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form.add_argument("--seed", type=int, help="only this one; default: ten of them")
    form.add_argument("--faults", type=int, default=usual.faults, help="for each seed")
    form.add_argument("--normal", type=int, default=usual.normal, help="normal messages for each seed")
    form.add_argument("--shadow", type=int, default=usual.shadow, help="shadow messages for each seed")
    form.add_argument("--rate", type=float, default=usual.normal_per_s, help="normal messages per second")
    form.add_argument("--members", type=int, default=usual.members, help="workers, two processes each")
    form.add_argument("--flaw", choices=["", "drop", "early"], default="", help="built in, to see it found")
    form.add_argument("--json", metavar="FILE", default=os.environ.get("CHAOS_JSON"), help="write the verdicts there")
    return form


sys.exit(main())
