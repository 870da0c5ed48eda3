"""The coverage map: chains, what became of a probe at each hop, and how it is drawn."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from shadowstream.cli import main
from shadowstream.errors import SetupError
from shadowstream.fcst.trace import Chain, CoverageMap, Fate, Probe, as_json, as_svg, as_text
from shadowstream.fcst.trace.probe import Seen

CHAIN = Chain.parsed("claimed > dispatched > used, used > settled, used > cancelled")
RUN = "trace-1"


def seen(topic: str, *, marked: bool = True, place: str = "", after_s: float = 1.0, reason: str = "") -> Seen:
    return Seen(topic, place or topic, marked, CHAIN.depth(topic) + 1, after_s, reason)


ALL = [seen(topic, after_s=float(number)) for number, topic in enumerate(CHAIN.before)]


def fates(*what: Seen) -> dict[str, Fate]:
    return {hop.topic: hop.fate for hop in CoverageMap.drawn(CHAIN, RUN, what).hops}


def test_a_chain_is_read_as_a_tree() -> None:
    assert CHAIN.first == "claimed"
    assert CHAIN.after("used") == ["settled", "cancelled"]
    assert [CHAIN.depth(topic) for topic in CHAIN.before] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "an empty name"),
        ("a >", "an empty name"),
        ("a > b, c > d", "begins at a, c"),
        ("a > b > a", "a comes from"),
        ("a > c, b > c", "c comes from a and from b"),
        ("a > a", "comes from"),
    ],
)
def test_what_is_no_chain_is_said(text: str, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        Chain.parsed(text)


def test_a_chain_that_carries_everything_is_whole() -> None:
    found = CoverageMap.drawn(CHAIN, RUN, ALL)
    assert found.whole
    assert {hop.fate for hop in found.hops} == {Fate.CARRIED}
    assert not any(hop.told for hop in found.hops)
    assert [hop.hop for hop in found.hops] == [1, 2, 3, 4, 4]


def test_the_hop_that_loses_the_mark_is_named_and_what_was_not_reached_too() -> None:
    found = CoverageMap.drawn(CHAIN, RUN, [*ALL[:2], seen("used", marked=False)])
    assert not found.whole
    used, settled = found.hops[2], found.hops[3]
    assert (used.fate, settled.fate) == (Fate.DROPPED, Fate.NEVER)
    assert "who reads dispatched and writes used does not pass the mark on" in used.told
    assert "look at who reads used" in settled.told


def test_a_mark_lost_once_weighs_more_than_one_that_was_carried() -> None:
    assert fates(*ALL, seen("used", marked=False))["used"] is Fate.DROPPED


def test_a_probe_that_ends_beside_a_topic_is_said_with_the_reason() -> None:
    parked = seen("dispatched", place="dispatched.quarantine", reason="unsigned")
    found = CoverageMap.drawn(CHAIN, RUN, [ALL[0], ALL[1], parked])
    assert found.hops[1].fate is Fate.ASIDE
    assert found.hops[1].told == "it ended in dispatched.quarantine (unsigned)"
    assert found.hops[2].fate is Fate.NEVER


def test_shadow_topics_are_the_straight_way_too() -> None:
    assert fates(seen("claimed", place="shadow.claimed"))["claimed"] is Fate.CARRIED


def test_nothing_seen_is_said_for_every_topic() -> None:
    assert set(fates().values()) == {Fate.NEVER}


def test_waiting_ends_when_every_topic_was_seen() -> None:
    assert CoverageMap.complete(CHAIN, ALL)
    assert not CoverageMap.complete(CHAIN, ALL[:-1])


def test_the_text_has_a_line_for_each_topic_and_the_cure_below() -> None:
    text = as_text(CoverageMap.drawn(CHAIN, RUN, [*ALL[:2], seen("used", marked=False, place="used")])).splitlines()
    assert text[0] == "run trace-1"
    assert [line[0] for line in text[1:] if line[0] != " "] == ["+", "+", "X", "-", "-"]
    assert "dropped" in text[3]
    assert "does not pass the mark on" in text[4]


def test_the_json_says_the_same() -> None:
    told = json.loads(as_json(CoverageMap.drawn(CHAIN, RUN, ALL)))
    assert told["whole"] is True
    assert [hop["fate"] for hop in told["hops"]] == ["carried"] * 5


def test_the_picture_has_a_box_for_each_topic_and_none_lie_on_each_other() -> None:
    hostile = Chain.parsed("a<b>&c".replace(">", "") + " > d")
    for chain, what in ((CHAIN, ALL), (hostile, [])):
        root = ET.fromstring(as_svg(CoverageMap.drawn(chain, RUN, what)))  # noqa: S314 - our own
        boxes = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")]
        assert len({(box.get("x"), box.get("y")) for box in boxes}) == len(chain.before)


def test_each_probe_has_a_run_that_a_mark_can_carry() -> None:
    probes = [Probe() for _ in range(100)]
    assert len({probe.run for probe in probes}) == 100
    assert all(probe.run.startswith("trace-") and probe.word.isalnum() for probe in probes)


def test_the_demo_finds_its_deaf_hop(tmp_path, capsys) -> None:
    picture = tmp_path / "map.svg"
    assert main(["trace", "--demo", "--json", "--wait", "60", "--svg", str(picture)]) == 1
    hops = {hop["topic"]: hop for hop in json.loads(capsys.readouterr().out)["hops"]}
    assert [hops[topic]["fate"] for topic in hops] == ["carried", "carried", "dropped", "dropped"]
    assert hops["voucher.used"]["told"].startswith("who reads voucher.dispatched and writes voucher.used")
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trace"], "--chain"),
        (["trace", "--chain", "a > b, c"], "begins at"),
    ],
)
def test_wrong_usage_is_said_with_the_cure(arguments: list[str], told: str, capsys) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
