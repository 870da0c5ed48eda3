"""What each action on letters is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.cli.options import DEFAULT_FILE

if TYPE_CHECKING:
    import argparse

__all__ = ["add_topic"]


def add_topic(parser: argparse.ArgumentParser) -> None:
    """Add what every action on letters is told."""
    parser.add_argument("topic", metavar="TOPIC", help="the topic itself, as under `topics:`")
    parser.add_argument("--config", metavar="FILE", help=f"default: {DEFAULT_FILE}")
