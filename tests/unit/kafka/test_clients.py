"""What the clients of a worker are configured with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import shadowstream as ss
from shadowstream.kafka.clients import consumer_properties, member_properties

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("more", "revoke", "polls_ms"),
    [
        ("", "10s", 45_000),
        (", session.timeout.ms: 6000", "10s", 45_000),
        (", session.timeout.ms: '60000'", "10s", 60_000),
        ("", "1m", 120_000),
        (", max.poll.interval.ms: 300000", "10s", 300_000),
    ],
)
def test_a_member_that_gives_up_no_partition_is_put_out_after_a_session_and_not_after_five_minutes(
    tmp_path: Path, more: str, revoke: str, polls_ms: int
) -> None:
    file = tmp_path / "shadowstream.yaml"
    kafka = f"{{bootstrap.servers: 'h:1', group.id: g{more}}}"
    file.write_text(f"service: s\nkafka: {kafka}\nworker: {{revoke: {revoke}}}\ntopics: {{t: {{}}}}\n")
    settings = ss.load(file)
    assert member_properties(settings.normal) == {"max.poll.interval.ms": polls_ms}


def test_whoever_polls_himself_has_the_client_s_own_time_for_it(tmp_path: Path) -> None:
    file = tmp_path / "shadowstream.yaml"
    file.write_text("service: s\nkafka: {bootstrap.servers: 'h:1', group.id: g}\ntopics: {t: {}}\n")
    assert "max.poll.interval.ms" not in consumer_properties(ss.load(file).normal)
