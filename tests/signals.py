"""What the tests of the signal on other wires share: one service's settings, marks as somebody else wrote them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import shadowstream as ss
from shadowstream.events import Crossed
from shadowstream.headers import MarkWriter
from shadowstream.propagate import Propagator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shadowstream.events import Event

SECRET = "not a secret"
ENVIRON = {"SHADOW_KEY_1": SECRET, "SHADOW_KEY_0": "an older one"}
SIGNED = {"trust": "signed", "keys": [{"id": "k1", "secret_env": "SHADOW_KEY_1"}]}
RUN = "fcst-1111"


class Ear:
    """A hook that remembers what crossed."""

    def __init__(self) -> None:
        self.heard: list[Crossed] = []

    def on(self, event: Event) -> None:
        """Remember one fact."""
        if isinstance(event, Crossed):
            self.heard.append(event)

    @property
    def told(self) -> list[str]:
        """Return what crossed, each in one line."""
        return [" ".join(filter(None, [each.lane, each.way, each.verdict, each.reason])) for each in self.heard]


def settings_of(folder: Path, **sections: Any) -> ss.Settings:
    """Load a service that takes part, with sections laid over."""
    document = {
        "service": "tests",
        "kafka": {"bootstrap.servers": "localhost:1", "group.id": "tests"},
        "mark": SIGNED,
        "propagate": {"shadow": True, "allow": ["127.0.0.1", "localhost"]},
        **sections,
    }
    path = folder / "shadowstream.yaml"
    path.write_text(json.dumps({name: section for name, section in document.items() if section is not None}))
    return ss.load(path, environ=ENVIRON, strict=True)


def maker(folder: Path, ear: Ear, **always: Any) -> Callable[..., Propagator]:
    """Return what makes a service's signal, which ``ear`` hears; its rules are ``always`` and what a test adds."""

    def make(propagate: dict[str, Any] | None = None, **sections: Any) -> Propagator:
        rules = {"shadow": True, **always, **(propagate or {})}
        return Propagator(settings_of(folder, propagate=rules, **sections), [ear])

    return make


def signed(run: str = RUN, *, key_id: str = "k1", secret: str = SECRET, ago_s: float = 0.0, **more: Any) -> str:
    """Return a mark as a producer elsewhere would have written it."""
    writer = MarkWriter(keys=[(key_id, secret.encode())])
    return writer.onward(ss.Mark(run=run, **more), time.time() - ago_s).decode()
