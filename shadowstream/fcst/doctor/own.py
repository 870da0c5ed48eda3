"""What can be told from the configuration alone: lanes, keys, sinks, and where calls may go."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from shadowstream.config import lint
from shadowstream.fcst.doctor.diagnosis import bad, good, poor
from shadowstream.headers import Kind, MarkReader, MarkWriter
from shadowstream.lane import Mark
from shadowstream.propagate.hosts import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config import Settings
    from shadowstream.fcst.doctor.diagnosis import Diagnosis

__all__ = ["hosts", "keys", "lanes"]

LEAST_SECRET_BYTES: Final = 16
"""A shorter secret can be guessed by whoever has seen one mark."""


def lanes(settings: Settings) -> Iterator[Diagnosis]:
    """Look at both lanes' settings."""
    if settings.shadow is None:
        for problem in settings.shadow_problems:
            yield bad("config", f"shadow is off: {problem.place}: {problem.key} {problem.message}", problem.cure)
        return
    yield good("config", f"both lanes are configured, with {len(settings.normal.topics)} topics")
    for warning in settings.warnings:
        yield poor("config", warning, "See `shadowstream config check`.")
    for remark in lint(settings):
        yield poor("config", f"{remark.place}: {remark.key} {remark.message}", remark.cure)


def keys(settings: Settings) -> Iterator[Diagnosis]:
    """Sign a mark and read it again."""
    mark = settings.mark
    if not mark.keys:
        cure = "Add `mark: {keys: [...]}`; `shadowstream token rotate k1 --to FILE` makes one."
        yield poor("keys", "marks are not signed: whoever can produce or call can make work shadow", cure)
        return
    for key in mark.keys:
        if len(key.secret) < LEAST_SECRET_BYTES:
            told = f"the secret of {key.id} has {len(key.secret)} bytes; fewer than {LEAST_SECRET_BYTES} can be guessed"
            yield poor("keys", told, "`shadowstream token rotate ID --to FILE` makes a longer one.")
    now = time.time()
    value = MarkWriter.of(mark).onward(Mark(run="doctor"), now)
    reading = MarkReader.of(mark).read_value(value, now)
    if reading.kind is Kind.SHADOW:
        yield good("keys", f"{mark.keys[0].id} signs, {', '.join(key.id for key in mark.keys)} verify")
    else:
        yield bad("keys", f"a mark that was just signed reads as {reading.reason}", "See to `mark: keys`.")


def hosts(settings: Settings) -> Iterator[Diagnosis]:
    """See whether the hosts that shadow calls may go to can be found."""
    rules = settings.propagate
    if not rules.shadow:
        told = "marked requests over HTTP, gRPC and Celery are refused here, and only Kafka is shadow"
        yield good("propagate", told)
        return
    for listed in (*rules.allow, *rules.unmarked):
        host, _ = split(listed)
        if host.startswith("*."):
            continue
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            yield poor("propagate", f"{host} is not found from here ({error})", "See to its name under `propagate:`.")
        else:
            yield good("propagate", f"shadow calls may go to {listed}")
    if not rules.allow and not rules.unmarked:
        told = "shadow calls may go nowhere, so a handler that makes one fails"
        yield poor("propagate", told, "List the chain's own hosts under `propagate: {allow: [...]}`.")
