"""How every command is described, where it finds its configuration, and how it speaks."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from shadowstream.config import load
from shadowstream.errors import SetupError
from shadowstream.gate.fleet import Layer, parsed

if TYPE_CHECKING:
    from shadowstream.config import Settings

__all__ = ["DEFAULT_FILE", "default_file", "described", "settings_in_force", "settings_of", "write"]

DEFAULT_FILE = "shadowstream.yaml"


def described(subparsers: Any, name: str, summary: str, about: str) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse keeps the type private
    """Add a command whose help is a text of its own."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def default_file() -> str:
    """Return the file that a worker would read here."""
    return os.environ.get("SHADOWSTREAM_CONFIG", DEFAULT_FILE)


def settings_of(args: argparse.Namespace) -> Settings:
    """Load the configuration that was named, else the one that a worker would read here."""
    return load(args.config or default_file())


def settings_in_force(args: argparse.Namespace) -> Settings:
    """Load the same, with what is laid over it while a test runs, as shadow's processes go by it.

    Raises:
        BrokerError: it may be laid over, and Redis does not answer.
        SetupError: what is laid over cannot be read.
    """
    settings = settings_of(args)
    if settings.fleet is None or not settings.fleet.live:
        return settings
    _, document = Layer(settings.fleet).read()
    try:
        return load(args.config or default_file(), live=parsed(document))
    except ValueError as error:
        raise SetupError(f"what is laid over cannot be read ({error}); run `shadowstream limit --clear`") from error


def write(text: str) -> None:
    """Write a line to the terminal."""
    sys.stdout.write(f"{text}\n")
