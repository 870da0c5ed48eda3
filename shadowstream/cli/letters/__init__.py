"""What ``shadowstream dlq`` and ``shadowstream parked`` share: options, a list of letters, how far a replay came."""

from __future__ import annotations

from shadowstream.cli.letters.listing import add_browsing
from shadowstream.cli.letters.sending import add_sending

__all__ = ["add_browsing", "add_sending"]
