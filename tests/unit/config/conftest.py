"""Configurations are written as YAML text, and loaded without the environment of the machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from textwrap import dedent

import pytest

from shadowstream.cli import config
from shadowstream.config import Examined, Settings, examine, load

ENOUGH = "service: uservoucher\nkafka: {bootstrap.servers: 'localhost:9092', group.id: uservoucher}\n"

Load = Callable[..., Settings]
Examine = Callable[..., Examined]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a configuration: the text after a service and a cluster, or with ``whole`` just the text."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = "", *, whole: bool = False) -> str:
        (tmp_path / "c.yaml").write_text(dedent(text) if whole else ENOUGH + dedent(text), encoding="utf-8")
        return "c.yaml"

    return write


@pytest.fixture
def loaded(written) -> Load:
    def load_text(text: str = "", environ: Mapping[str, str] | None = None, **more) -> Settings:
        return load(written(text), environ=environ or {}, **more)

    return load_text


@pytest.fixture
def examined(written) -> Examine:
    def examine_text(text: str = "", environ: Mapping[str, str] | None = None, *, whole: bool = False, **more):
        return examine(written(text, whole=whole), environ=environ or {}, **more)

    return examine_text


@pytest.fixture
def run(written, tmp_path, monkeypatch):
    """Run `shadowstream config` where ``c.yaml`` is a configuration and ``d.yaml`` another one."""
    monkeypatch.delenv("SHADOWSTREAM_CONFIG", raising=False)

    def run_command(text: str, *arguments: str, other: str = "") -> int:
        (tmp_path / written(other)).rename(tmp_path / "d.yaml")
        written(text)
        parser = argparse.ArgumentParser()
        config.add_parser(parser.add_subparsers(required=True))
        args = parser.parse_args(["config", *arguments])
        return args.run(args)

    return run_command
