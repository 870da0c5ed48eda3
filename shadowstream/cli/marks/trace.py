"""``shadowstream trace``: which hops of the chain carry the mark, and which one is deaf."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from shadowstream.cli.options import DEFAULT_FILE, default_file, described, write
from shadowstream.config import load
from shadowstream.errors import BrokerError, SetupError
from shadowstream.fcst.trace import Chain, CoverageMap, Probe, Watch, as_json, as_svg, as_text
from shadowstream.fcst.trace.deaf import deaf_chain
from shadowstream.fcst.trace.probe import WORD
from shadowstream.gate.fleet import Switch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from shadowstream.config import Settings

__all__ = ["add_parser"]

HOLES_EXIT = 1
ANSWER_S = 10.0
LEASE_S = 30.0

ABOUT = """Send one marked probe through the chain, and draw which hops carried its mark, dropped it, or never saw it.

A probe is a shadow message with a run of its own; {probe} in its value becomes a word that it is known by where its
mark is lost, so put it where services copy it: an id. It is sent to the chain's first topic, or by --http to whatever
writes that.

    shadowstream trace --chain 'voucher.claimed > voucher.dispatched > voucher.used, voucher.used > voucher.settled' \\
        --value '{"voucher_id": "{probe}", "user_id": "1", "promotion_id": "1"}'
    shadowstream trace --chain ... --value ... --http http://edge:8080/claim
    shadowstream trace --chain ... --value ... --svg map.svg --json
    shadowstream trace --demo                    # a chain with one deaf hop, on a broker of its own

Where runs need a lease the probe's run gets one for as long as it takes, in the service that --config names; say
--config again for each further service.

Exit codes: 0 every hop carries the mark, 1 one does not, 2 wrong usage or set-up, 3 the brokers, Redis or the URL
failed us."""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type private
    """Add the command to the command line."""
    parser = described(commands, "trace", "draw which hops of the chain carry the mark", ABOUT)
    parser.add_argument("--chain", metavar="TOPICS", help="a > b > c, b > d: the topics, in the order of a message")
    parser.add_argument("--value", metavar="TEXT", default=f'{{"voucher_id": "{WORD}"}}', help="default: %(default)s")
    parser.add_argument("--key", metavar="TEXT", help="the message's key (default: the probe's word)")
    parser.add_argument("--http", metavar="URL", help="POST the value there, with the mark, in place of producing it")
    parser.add_argument("--wait", metavar="S", type=float, default=30.0, help="seconds at most (default: %(default)g)")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="also write the map as a picture")
    parser.add_argument("--demo", action="store_true", help="trace a chain of our own that has a deaf hop")
    parser.add_argument("--config", metavar="FILE", action="append", help=f"default: {DEFAULT_FILE}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_trace)


def _trace(args: argparse.Namespace) -> int:
    probe = Probe()
    with ExitStack() as stack:
        if args.demo:
            settings, chain = stack.enter_context(deaf_chain())
        else:
            if not args.chain:
                raise SetupError("say which topics a message goes through, in their order: --chain 'a > b > c'")
            chain = Chain.parsed(args.chain)
            services = [load(each) for each in args.config or [default_file()]]
            settings = services[0]
            for each in services:
                stack.enter_context(_armed(each, probe, args.wait))
        watch = stack.enter_context(Watch(settings, chain))
        _send(args, watch, probe)
        sys.stderr.write(
            f"shadowstream: waiting for {probe.run} at {len(chain.before)} topics, {args.wait:g} s at most\n"
        )
        seen = watch.seen(probe, args.wait, lambda found: CoverageMap.complete(chain, found))
    return _shown(args, CoverageMap.drawn(chain, probe.run, seen))


def _shown(args: argparse.Namespace, found: CoverageMap) -> int:
    write(as_json(found) if args.json else as_text(found))
    if args.svg is not None:
        try:
            args.svg.write_text(as_svg(found), encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{args.svg}: {error.strerror}; the map is above") from error
    return 0 if found.whole else HOLES_EXIT


def _send(args: argparse.Namespace, watch: Watch, probe: Probe) -> None:
    if not args.http:
        watch.send(probe, args.value, args.key)
        return
    body = probe.within(args.value).encode()
    headers = {"Content-Type": "application/json", watch.header: watch.mark(probe)}
    try:
        # The address is the user's own word.
        with urlopen(Request(args.http, body, headers, method="POST"), timeout=ANSWER_S):  # noqa: S310
            watch.sent()
    except (URLError, ValueError) as error:
        raise BrokerError(f"{args.http} did not take the probe: {error}") from error


@contextmanager
def _armed(settings: Settings, probe: Probe, wait_s: float) -> Iterator[None]:
    """Give the probe's run a lease, where it needs one."""
    if settings.fleet is None or not settings.fleet.lease:
        yield
        return
    switch = Switch(settings.fleet)
    switch.arm(probe.run, wait_s + LEASE_S)
    try:
        # What a process knows of leases is half a second old.
        time.sleep(1.0)
        yield
    finally:
        switch.disarm(probe.run)
