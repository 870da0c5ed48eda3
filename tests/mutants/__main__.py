"""``make mutants``: what decides is changed in one place after another, and the unit tests must fail each time.

    python -m tests.mutants                 # half an hour; goes on where it was interrupted
    python -m tests.mutants --told          # only tell what was found before

What is changed, and by which tests it must be seen, is in pyproject.toml (``tool.mutmut``). The exit code is 1 when
fewer than nine in ten changes were seen. What may stay unseen, and why: docs/mutants.md. One change and its place:
``mutmut show NAME``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter, defaultdict

from benchmarks.peers.environments import interpreter
from benchmarks.peers.sides import Side

WANTED = 0.9
SEEN = {"killed", "timeout", "segfault"}
"""A change that makes a test hang, or the interpreter end, was seen too."""


def mutmut() -> tuple[str, ...]:
    """Return the command, in an environment of its own."""
    return (str(interpreter(Side("mutmut", frozenset()))), "-m", "mutmut")


def told() -> dict[str, str]:
    """Return how each change fared, by its name."""
    listed = subprocess.run([*mutmut(), "results", "--all", "true"], capture_output=True, text=True, check=True).stdout
    lines = (line.strip().rpartition(": ") for line in listed.splitlines() if line.strip())
    return {name: state for name, _, state in lines}


def main() -> int:
    """Change, test and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--told", action="store_true", help="only tell what was found before")
    if not parser.parse_args().told:
        subprocess.run([*mutmut(), "run"], check=True)
    states = told()
    by_module: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for name, state in states.items():
        by_module[name.rpartition(".")[0]][state in SEEN] += 1
    print(f"{'module':48} seen of all")
    for module, counted in sorted(by_module.items()):
        print(f"{module:48} {counted[True]:4} of {counted.total():4}")
    unseen = sorted(name for name, state in states.items() if state not in SEEN)
    print("not seen:", *unseen, sep="\n  ")
    share = 1 - len(unseen) / len(states)
    print(f"{len(states) - len(unseen)} of {len(states)} changes were seen by a test: {share:.3f} (wanted: {WANTED})")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
