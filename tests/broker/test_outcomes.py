"""Every message ends in one counted outcome, and each lane has a breaker of its own."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from shadowstream.lane import Lane
from tests.broker.rig import MARKED, eventually, text_of

if TYPE_CHECKING:
    import shadowstream as ss
    from tests.broker.rig import Headers, Rig

pytest_plugins = ["tests.broker.rig"]

MIX: list[tuple[str, int, Headers | None]] = [
    ("n-good", 60, None),
    ("n-good", 10, [("X-Shadow", b"1"), ("trace", b"1")]),
    ("n-bad", 15, None),
    ("n-second", 10, None),
    ("s-good", 50, MARKED),
    ("s-good", 20, [("x-shadow", b"true")]),
    ("s-bad", 12, MARKED),
    ("s-second", 8, MARKED),
    ("s-stale", 17, [("x-shadow", b"1;run=fcst-0001;exp=1700000000")]),
    ("?-empty", 5, [("x-shadow", b"")]),
    ("?-version", 4, [("x-shadow", b"9;run=a")]),
    ("?-conflict", 3, [("x-shadow", b"1"), ("x-shadow", b"true")]),
    ("?-many", 2, [("h", b"")] * 129),
]


def mixed(rig: Rig, topic: str) -> None:
    """Produce the whole mix over the partitions of a topic, by key."""
    for kind, count, headers in MIX:
        for number in range(count):
            rig.producer.produce(topic, f"{kind}-{number}", f"{number % 7}", headers=[*headers] if headers else None)
    assert rig.producer.flush(30) == 0


def test_what_was_produced_is_the_sum_of_all_outcomes_at_a_quiet_point(rig: Rig) -> None:
    topic = rig.topic(partitions=3)
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {"order": "key", "concurrency": 3, "retries": 1, "backoff": "1ms"}}))
    tried: set[str] = set()

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        value = text_of(message)
        first = value not in tried
        tried.add(value)
        if "bad" in value or ("second" in value and first):
            raise ValueError(value)

    mixed(rig, topic)
    with worker:
        eventually(lambda: rig.both_caught_up(topic), "a quiet point")

    produced = sum(count for _, count, _ in MIX)
    normal, shadow = rig.heard.outcomes(Lane.NORMAL), rig.heard.outcomes(Lane.SHADOW)
    assert normal == {"handled": 80, "failed": 15, "quarantined": 2}
    assert shadow == {"handled": 78, "failed": 12, "expired": 17, "quarantined": 12}
    assert sum(normal.values()) + sum(shadow.values()) == produced
    for lane, sums in ((Lane.NORMAL, normal), (Lane.SHADOW, shadow)):
        assert rig.heard.stepped_over(lane) + sum(sums.values()) == produced
    assert rig.heard.reasons(Lane.NORMAL) == {"near_miss": 10, "too_many_headers": 2}
    assert rig.heard.reasons(Lane.SHADOW) == {"empty": 5, "unknown_version": 4, "conflict": 3}
    assert sum(rig.ends(f"{topic}.quarantine").values()) == 14
    assert sum(rig.ends(f"{topic}.dlq").values()) == 15
    assert sum(rig.ends(f"{topic}.shadow.dlq").values()) == 12


@pytest.mark.parametrize(("kind", "outcome"), [("park", "parked"), ("shed", "shed")])
def test_what_a_limit_refuses_is_counted_once_and_no_normal_message_is_refused(
    rig: Rig, kind: str, outcome: str
) -> None:
    topic = rig.topic(partitions=2)
    rig.begin(topic)
    settings = rig.settings(
        {topic: {"shadow": {"on_limit": kind}}}, rate_limit={"shadow.claim": {"hard": "1/h", "burst": 30}}
    )
    worker = rig.worker(settings)
    worker.handles(topic, command="claim")(lambda _: None)
    for partition in (0, 1):
        rig.send(topic, range(50), MARKED, partition=partition)
        rig.send(topic, range(50), partition=partition)

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "a quiet point")

    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 100}
    assert rig.heard.outcomes(Lane.SHADOW) == {"handled": 30, outcome: 70}
    assert sum(rig.ends(f"{topic}.shadow.parked").values()) == (70 if kind == "park" else 0)


def test_what_a_limit_lets_wait_falls_behind_in_order_and_nothing_of_it_is_lost(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {}}, rate_limit={f"shadow.{topic}": {"hard": "200/s", "burst": 1}}))
    handled: dict[Lane, list[str]] = {Lane.NORMAL: [], Lane.SHADOW: []}
    worker.handles(topic)(lambda message: handled[message.lane].append(text_of(message)))
    rig.send(topic, range(200), MARKED)
    rig.send(topic, range(200))

    with worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "normal at the end")
        behind = rig.committed(rig.group_of(Lane.SHADOW), topic)[0]
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow at the end as well")

    assert behind < 200
    assert handled[Lane.NORMAL] == handled[Lane.SHADOW] == [str(number) for number in range(200)]
    assert rig.heard.outcomes(Lane.SHADOW) == {"handled": 200}


@pytest.mark.parametrize("broken", Lane)
def test_one_lanes_breaker_opens_and_the_others_stays_closed_on_the_same_command(rig: Rig, broken: Lane) -> None:
    other = Lane.SHADOW if broken is Lane.NORMAL else Lane.NORMAL
    topic = rig.topic()
    rig.begin(topic)
    rule = {"failure_rate": 0.5, "window": 10, "min_calls": 10, "open_for": "1h", "half_open": 1}
    worker = rig.worker(rig.settings({topic: {"retries": 0}}, resilience={"claim": rule}, worker={"drain": "1s"}))
    calls = dict.fromkeys(Lane, 0)
    counting = threading.Lock()

    @worker.handles(topic, command="claim")
    def handler(message: ss.Message) -> None:
        with counting:
            calls[message.lane] += 1
        if message.lane is broken:
            raise ValueError(message.lane)

    with worker:
        for number in range(50):
            rig.send(topic, [number])
            rig.send(topic, [number], MARKED)
        eventually(lambda: rig.caught_up(other, topic), "the other lane at the end")
        eventually(lambda: rig.heard.transitions(broken), "the broken lane's breaker open")
        rig.send(topic, ["later"], None if other is Lane.NORMAL else MARKED)
        eventually(lambda: rig.caught_up(other, topic), "the other lane goes on")

    assert calls == {broken: 10, other: 51}
    assert rig.heard.transitions(broken) == ["open"]
    assert rig.heard.transitions(other) == []
    dead = rig.ends(f"{topic}.dlq" if broken is Lane.NORMAL else f"{topic}.shadow.dlq")
    assert dead == {0: 10}


def test_a_breaker_that_opened_closes_again_and_what_waited_is_handled(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rule = {"failure_rate": 0.5, "window": 4, "min_calls": 4, "open_for": "100ms", "half_open": 2}
    worker = rig.worker(rig.settings({topic: {"retries": 0}}, resilience={f"shadow.{topic}": rule}))
    failures = itertools.repeat(ValueError(), 6)

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        if message.lane is Lane.SHADOW and (failure := next(failures, None)) is not None:
            raise failure

    rig.send(topic, range(40), MARKED)
    with worker:
        eventually(lambda: rig.caught_up(Lane.SHADOW, topic), "shadow at the end")

    # Four failures open it, two trials fail, two succeed.
    assert rig.heard.outcomes(Lane.SHADOW) == {"failed": 6, "handled": 34}
    assert rig.heard.transitions(Lane.SHADOW) == ["open", *["half-open", "open"] * 2, "half-open", "closed"]
