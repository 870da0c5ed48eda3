"""Each row of docs/conflicts.md, which says what becomes of whoever says what."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import shadowstream as ss
from shadowstream.errors import MarkError
from shadowstream.headers import UNREADABLE, Kind, MarkReader, MarkWriter, Reading
from shadowstream.kafka.engine import fate, foreign
from shadowstream.lane import Lane
from shadowstream.propagate.carrier import Pairs
from tests.signals import ENVIRON, RUN, SECRET, SIGNED, settings_of, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conflicts.md"
MARKS = {
    "live": signed(hop=1),
    "another run": signed("another"),
    "stale": signed(ago_s=10 * 3600),
    "untrusted": "junk",
    "forged": signed(secret="a guess"),
}
TOPICS = {"shared": {}, "x": {"route": "topic"}, "off": {"enabled": False}}


def rows(title: str) -> Iterator[tuple[str, ...]]:
    """Give the rows of one of the page's tables, one for each combination that a row names."""
    section = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    for line in lines:
        yield from product(*([each.strip() for each in cell.split(",")] for cell in whole(line)))


def whole(line: str) -> list[str]:
    # The one verdict that has a comma in it.
    return [cell.strip().replace("normal, taken off", "taken off") for cell in line.strip("|").split("|")]


READ, PRODUCED, REQUESTED = (
    list(rows(f"A {each}")) for each in ("message is read", "message is produced", "request comes in")
)


def test_the_page_has_each_combination_once() -> None:
    marks = ["none", *MARKS]
    assert sorted(row[:2] for row in READ) == sorted(
        product([*TOPICS, "shadow.x"], ["none", "live", "stale", "untrusted", "forged", "untellable"])
    )
    assert sorted(row[:3] for row in PRODUCED) == sorted(
        product(["normal", "shadow"], marks, ["shared", "x", "shadow.x"])
    )
    assert sorted(row[:2] for row in REQUESTED) == sorted(
        product([mark for mark in marks if mark != "another run"], marks)
    )


def reading_of(mark: str) -> Reading:
    if mark == "untellable":
        return UNREADABLE
    reader = MarkReader(keys={"k1": SECRET.encode()}, signed=True)
    return reader.read([] if mark == "none" else [("x-shadow", MARKS[mark].encode())], time.time())


@pytest.mark.parametrize(("topic", "mark", "normal", "shadow"), READ)
def test_a_message_is_read(topic: str, mark: str, normal: str, shadow: str) -> None:
    reading = reading_of(mark)

    def does(lane: Lane) -> str:
        if reading.kind is (Kind.NORMAL if lane is Lane.NORMAL else Kind.SHADOW) and not (
            lane is Lane.NORMAL and topic == "shadow.x"
        ):
            return "handles"
        verdict = fate(lane, topic == "shared", reading)
        if verdict is None:
            return "steps over"
        outcome, reason = verdict
        return f"{outcome}: {reason}" if reason else outcome.value

    assert normal in {does(Lane.NORMAL), "-"}
    assert shadow in {does(Lane.SHADOW), "-"}
    owners = [each for each in (normal, shadow) if each not in {"-", "steps over"}]
    assert len(owners) == 1, "each message has exactly one owner"


class Client:
    """A producer's client that writes down what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[tuple[str, bytes]]]] = []

    def produce(self, topic: str, *_: Any, headers: Any = None) -> None:
        self.sent.append((topic, list(headers or ())))


@pytest.mark.parametrize(("at_hand", "given", "to", "expected"), PRODUCED)
def test_a_message_is_produced(tmp_path, at_hand: str, given: str, to: str, expected: str) -> None:
    settings, client = settings_of(tmp_path, topics=TOPICS), Client()
    producer = ss.Producer(settings, client_of=lambda _: client)
    headers: Any = None if given == "none" else [("x-shadow", MARKS[given].encode())]
    with ss.entered(ss.Mark(run=RUN) if at_hand == "shadow" else None):
        try:
            producer.produce(to, b"v", headers=headers)
        except MarkError:
            happened = "MarkError"
        else:
            ((topic, sent),) = client.sent
            stamps = [value for name, value in sent if name == "x-shadow"]
            assert len(stamps) <= 1
            happened = "stamped" if stamps else "sent as it is"
            assert topic == ("shadow.x" if stamps and to == "x" else to)
    assert happened == expected
    assert not (expected == "MarkError" and client.sent)


@pytest.mark.parametrize(("header", "baggage", "inside", "edge"), REQUESTED)
def test_a_request_comes_in(tmp_path, header: str, baggage: str, inside: str, edge: str) -> None:
    def verdict(*, at_edge: bool) -> str:
        rules = {"shadow": True, "baggage": True, "edge": at_edge}
        propagator = ss.Propagator(settings_of(tmp_path, propagate=rules))
        pairs: list[tuple[str, str | bytes]] = []
        if header != "none":
            pairs.append(("x-shadow", MARKS[header]))
        if baggage != "none":
            pairs.append(("baggage", f"x-shadow={quote(MARKS[baggage], safe='')}"))
        carrier = Pairs(list(pairs))
        arrival = propagator.arrived(carrier, "http")
        if arrival.refused:
            return f"refused: {arrival.refused}"
        if arrival.mark is not None:
            return "shadow"
        return "normal" if carrier.pairs == pairs else "taken off"

    assert verdict(at_edge=False) == inside
    assert verdict(at_edge=True) == edge


def test_the_marks_of_this_page_are_what_they_are_called() -> None:
    assert ENVIRON[SIGNED["keys"][0]["secret_env"]] == SECRET
    kinds = {mark: reading_of(mark) for mark in ("none", *MARKS)}
    assert {mark: reading.reason or reading.kind.value for mark, reading in kinds.items()} == {
        "none": "normal",
        "live": "shadow",
        "another run": "shadow",
        "stale": "expired",
        "untrusted": "malformed",
        "forged": "bad_signature",
    }
    assert MarkWriter().name == "x-shadow"


def test_what_is_stepped_over_at_sight_is_plainly_the_other_lanes() -> None:
    assert foreign(Lane.NORMAL, shared=True) == {Kind.SHADOW, Kind.EXPIRED}
    assert foreign(Lane.SHADOW, shared=True) == {Kind.NORMAL}
    assert [foreign(lane, shared=False) for lane in Lane] == [frozenset()] * 2
