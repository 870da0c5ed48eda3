"""``make fuzz``: header lists and tokens by the ten million; stops at the first one that is read wrongly.

    python -m tests.fuzz                        # ten million, on all cores
    python -m tests.fuzz --count 100000 --seed 7

Each input is built or mutated by a seeded generator, read by ``MarkReader`` under each kind of trust (and by a
``Propagator``), and judged a second time by ``oracle``. Nothing may be raised, no lane may differ, and what a reader
said before it must say again from its cache. A failure prints the seed, the input and both verdicts; the exit code is
1.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

from shadowstream.headers import MarkReader, MarkWriter
from shadowstream.lane import Mark
from shadowstream.propagate import Propagator
from shadowstream.propagate.carrier import Pairs
from tests.fuzz.oracle import Headers, Judge
from tests.signals import settings_of

NOW = 1_795_480_000.0
NAME = "x-shadow"
KEYS = {"k1": b"s" * 32, "k0": b"o" * 32}
RULES = {"max_age_s": 21600.0, "skew_s": 30.0, "max_hops": 32}
CHUNK = 100_000
NAMES = (*(NAME,) * 8, "X-Shadow", "x_shadow", "x-shadov", "own", "", "x-shadow ", "traceparent", "\udcff")
PIECES = (
    *(b"1", b"true", b";", b"=", b"run", b"exp", b"hop", b"kid", b"sig", b"k1", b"k0", b"-", b"a", b"0", b"999", b"v9"),
    *(b" ", b"\x00", b"\r\n", b"\xff", b"\xef\xbb\xbf", "\uff11".encode(), b"1;run=", b";exp=1795480000", b"%3B", b","),
)
TRUSTS: tuple[tuple[str, dict[str, bytes], bool], ...] = (
    ("open without keys", {}, False),
    ("open with keys", KEYS, False),
    ("signed", KEYS, True),
    ("signed without keys", {}, True),
)


class Inputs:
    """Makes inputs: valid marks, marks with a few changes, and anything."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._writers = [MarkWriter(keys=[each]) for each in KEYS.items()] + [MarkWriter()]

    def headers(self) -> Headers:
        """Make a list of headers."""
        chance = self._random.random()
        many = self._random.randrange(125, 135) if chance > 0.995 else self._random.randrange(4)
        return [(self._random.choice(NAMES), self.value()) for _ in range(many)]

    def value(self) -> bytes | None:
        """Make the value of a header."""
        chance = self._random.random()
        if chance < 0.02:
            return None
        if chance < 0.25:
            return b"".join(self._random.choices(PIECES, k=self._random.randrange(12)))
        if chance < 0.27:
            return self._random.randbytes(self._random.choice((1, 8, 200, 1024, 1025)))
        mark = self._mark()
        return mark if chance < 0.5 else self._changed(mark)

    def _mark(self) -> bytes:
        run = "".join(self._random.choices("abc-019", k=self._random.choice((1, 8, 40))))
        around = self._random.choice((-40_000, -31, -29, 0, 3600, 21_599, 21_631, 40_000))
        exp = None if self._random.random() < 0.1 else int(NOW) + around
        hop = self._random.choice((0, 0, 1, 31, 32, 33))
        writer = self._random.choice(self._writers)
        return writer.onward(Mark(run, exp, 0), NOW).replace(b";hop=1", b"" if not hop else b";hop=%d" % hop)

    def _changed(self, mark: bytes) -> bytes:
        data = bytearray(mark)
        for _ in range(self._random.randrange(1, 4)):
            at = self._random.randrange(len(data) + 1)
            kind = self._random.random()
            if kind < 0.3 and at < len(data):
                data[at] ^= 1 << self._random.randrange(8)
            elif kind < 0.5:
                data[at:at] = self._random.choice(PIECES)
            elif kind < 0.7:
                del data[at : at + self._random.randrange(1, 6)]
            elif kind < 0.85:
                fields = bytes(data).split(b";")
                self._random.shuffle(fields)
                data = bytearray(b";".join(fields))
            else:
                data += data[: self._random.randrange(len(data) + 1)]
        return bytes(data)


class Subject:
    """The readers under test, each beside its judge."""

    def __init__(self, folder: Path) -> None:
        self._readers = [
            (
                trust,
                MarkReader(name=NAME, keys=keys, signed=signed, **RULES),
                Judge(name=NAME, keys=keys, signed=signed, **RULES),
            )
            for trust, keys, signed in TRUSTS
        ]
        document = {"propagate": {"shadow": True, "edge": True, "baggage": True}}
        self.verdicts = Counter[str]()
        """How often was judged what, under each kind of trust."""
        self._propagator = Propagator(settings_of(folder, **document), clock=lambda: NOW)

    def tried(self, headers: Headers) -> str:
        """Read one input every way; say what is wrong, or nothing."""
        for trust, reader, judge in self._readers:
            expected = judge.judge(headers, NOW)
            self.verdicts[f"{trust}: {expected}"] += 1
            for time_of_day in ("first", "again"):
                found = reader.read(headers, NOW)
                if found.kind.value != expected:
                    return f"{trust}, read {time_of_day}: {found.kind.value} ({found.reason}), and not {expected}"
                if (found.mark is not None) != (expected in {"shadow", "expired"}):
                    return f"{trust}: {found.kind.value} with mark {found.mark}"
        return self._arrived(headers)

    def _arrived(self, headers: Headers) -> str:
        pairs = [(name, value or b"") for name, value in headers]
        arrival = self._propagator.arrived(Pairs([*pairs, *(("baggage", value) for _, value in pairs[:1])]), "http")
        if arrival.mark is None:
            return ""
        # Whatever the way, nothing is shadow at the edge unless its very signature is right.
        mark = arrival.mark
        judge = Judge(name=NAME, keys={"k1": b"not a secret"}, signed=True, **RULES)
        wire = f"1;run={mark.run};exp={mark.expires_at};kid={mark.key_id};sig={mark.signature}".encode()
        return "" if judge.judge_value(wire, NOW) == "shadow" else f"the edge took {mark}"


def chunk(seed: int, count: int) -> tuple[int, Counter[str], str]:
    """Try one chunk of inputs; return how many, how they were judged, and what is wrong."""
    inputs = Inputs(seed)
    with TemporaryDirectory() as folder:
        subject = Subject(Path(folder))
        for number in range(count):
            headers = inputs.headers()
            try:
                wrong = subject.tried(headers)
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong = f"raised {error!r}"
            if wrong:
                return number, subject.verdicts, f"seed {seed}, input {number}: {headers!r}\n  {wrong}"
    return count, subject.verdicts, ""


def main() -> int:
    """Try as many inputs as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000, help="inputs in all (default: ten million)")
    parser.add_argument("--seed", type=int, default=1, help="the first chunk's seed; the next has the next")
    args = parser.parse_args()
    sizes = [min(CHUNK, args.count - begun) for begun in range(0, args.count, CHUNK)]
    done, began, verdicts = 0, time.monotonic(), Counter[str]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        chunks = [pool.submit(chunk, args.seed + number, size) for number, size in enumerate(sizes)]
        for each in as_completed(chunks):
            count, judged, wrong = each.result()
            done += count
            verdicts += judged
            if wrong:
                pool.shutdown(cancel_futures=True)
                print(wrong)
                return 1
            if done % 1_000_000 < CHUNK:
                print(f"{done:>10} inputs, {done / (time.monotonic() - began):,.0f} a second", flush=True)
    for verdict, count in sorted(verdicts.items()):
        print(f"{count:>10} {verdict}")
    print(f"{done} inputs from seed {args.seed} on: nothing raised, no lane wrong, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
