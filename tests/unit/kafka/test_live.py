"""What a worker does beside its lanes: it follows its configuration, and normal is guarded without depending on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from shadowstream.errors import SetupError
from shadowstream.events import Listeners
from shadowstream.gate.guard import Board
from shadowstream.kafka.worker.assembly import Registration
from shadowstream.kafka.worker.live import watcher_of
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shadowstream.config import LaneSettings, Settings

ENOUGH: dict[str, Any] = {"service": "s", "kafka": {"bootstrap.servers": "h:1", "group.id": "g"}, "topics": {"t": {}}}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    def made(**sections: Any) -> Settings:
        path = tmp_path / "shadowstream.yaml"
        path.write_text(json.dumps({**ENOUGH, **sections}))
        return ss.load(path, environ={})

    return made


def test_where_there_is_no_place_for_vitals_normal_runs_and_shadow_does_not(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: str) -> Board:
        raise SetupError("no place")

    monkeypatch.setattr(Board, "of", refuses)
    worker = ss.Worker(settings(guard={"p99": "50ms"}))
    assert worker._board(Lane.NORMAL) is None
    assert "vitals_not_written no place" in caplog.text
    with pytest.raises(SetupError, match="no place"):
        worker._board(Lane.SHADOW)
    assert ss.Worker(settings())._board(Lane.SHADOW) is None, "without a guard nobody asks"


class Cursor:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.taken: list[LaneSettings] = []
        self.gates = self

    def hear(self, _: object) -> None: ...

    def adopt(self, settings: LaneSettings) -> None:
        self.taken.append(settings)


def test_a_limit_by_keys_for_a_handler_of_batches_is_refused_also_while_it_runs(
    settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    cursor, registrations = Cursor(), [Registration("t", "claim", print, batch=10)]
    watcher = watcher_of(settings(), Lane.SHADOW, cursor, registrations, Listeners())  # type: ignore[arg-type]
    settings(multi_key_rate_limit_v2={"claim": {"keys": ["user"], "hard": "5/s"}})
    for _ in range(2):
        watcher.look()
    assert cursor.taken == []
    assert "leave batch out" in caplog.text
    settings(rate_limit={"claim": {"hard": "5/s"}})
    for _ in range(2):
        watcher.look()
    assert len(cursor.taken) == 1
