"""The services' modules with their state in memory, and what stands for Kafka around a handler."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message as RawMessage

import shadowstream as ss

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

RUN = ss.Mark(run="fcst-1111")


@dataclass
class Produced:
    """A producer that keeps what it was given, with the lane it was given in."""

    messages: list[tuple[str, Any, Any, ss.Lane]] = field(default_factory=list)

    def produce(self, topic: str, value: Any = None, key: Any = None, **_: Any) -> None:
        lane = ss.Lane.SHADOW if ss.is_shadow() else ss.Lane.NORMAL
        self.messages.append((topic, key, json.loads(value), lane))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Load a service's module anew, its own YAML under it, its state in memory, its producer replaced."""
    for sink in ("REDIS", "SHADOW.REDIS"):
        monkeypatch.setenv(f"SHADOWSTREAM__DATA__{sink}__URL", "memory://")

    def loaded(name: str) -> ModuleType:
        app = importlib.reload(importlib.import_module(f"consumers.{name}.app"))
        monkeypatch.setattr(app, "producer", Produced())
        return app

    return loaded


def claimed(voucher_id: str, mark: ss.Mark | None = None) -> ss.Message:
    """Return a voucher's message as a handler gets it."""
    voucher = {"voucher_id": voucher_id, "user_id": "u1", "promotion_id": "p1"}
    raw = RawMessage(topic="any", value=json.dumps(voucher).encode(), key=voucher_id.encode())
    return ss.Message(raw, mark)


def handled(handler: Callable[[ss.Message], object], message: ss.Message) -> None:
    """Call a handler in its message's lane, as the engine does."""
    with ss.entered(message.mark):
        handler(message)
