"""``python -m producers.ss_distribution``: claim vouchers over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import shadowstream as ss
from producers.ss_distribution.edge import Edge
from producers.ss_distribution.service import Distribution

ABOUT = """Claim vouchers over HTTP: each claim becomes a message on voucher.claimed, in the lane that its mark names.

    python -m producers.ss_distribution --port 8080

    curl -d '{"voucher_id": "v1", "user_id": "u1", "promotion_id": "p1"}' localhost:8080/claim
    curl -H 'x-shadow: 1;run=fcst-1111' -d '{"voucher_id": "s1", "user_id": "u1", "promotion_id": "p1"}' \\
         localhost:8080/claim                             # the same as shadow traffic

202: Kafka has it. 400: the claim is wrong, or its mark cannot be trusted. 503: Kafka, or the shadow lane, is not there.
GET /healthz says whether the process lives. Ctrl-C delivers what waits and ends."""

USAGE_EXIT = 2


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = ss.load(args.config)
    except ss.ConfigError as error:
        sys.stderr.write(f"ss_distribution: {error}\n")
        return USAGE_EXIT
    try:
        serve(settings, args.host, args.port)
    except OSError as error:
        sys.stderr.write(f"ss_distribution: {args.host}:{args.port}: {error.strerror}; use another --port\n")
        return USAGE_EXIT
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsing = argparse.ArgumentParser(
        prog="python -m producers.ss_distribution",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    beside = os.environ.get("SHADOWSTREAM_CONFIG") or str(Path(__file__).with_name("shadowstream.yaml"))
    parsing.add_argument("--config", metavar="FILE", default=beside, help="default: shadowstream.yaml beside this code")
    parsing.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parsing.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for any (default: %(default)s)")
    parsing.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parsing


def serve(settings: ss.Settings, host: str, port: int) -> None:
    """Answer until Ctrl-C, then deliver what waits."""
    with Distribution(settings) as service, Edge((host, port), service, settings.mark.header) as edge:
        logging.getLogger("ss_distribution").info("listening on %s:%d", host, edge.server_port)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            edge.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            logging.getLogger("ss_distribution").info("stopping")


if __name__ == "__main__":
    sys.exit(main())
