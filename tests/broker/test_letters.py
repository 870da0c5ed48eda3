"""Dead letters and parked messages on a real broker: read, sent back in their lane, remembered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer, TopicPartition

from shadowstream.cli import main
from shadowstream.kafka.letters import BoxKind, Ending, Orders, Replay, box_of
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARK, MARKED, eventually, headers_of, text_of
from tests.broker.service import surroundings
from tests.broker.wire import produce

if TYPE_CHECKING:
    from collections.abc import Callable

    import shadowstream as ss
    from tests.broker.rig import Headers, Rig

    Command = Callable[..., int]

pytest_plugins = ["tests.broker.rig"]

DONE, NOT_ALL, SETUP, BROKER, INTERRUPTED = 0, 1, 2, 3, 130
WRITTEN_AT = 1_700_000_000_123
STALE = b"1;run=fcst-0;exp=1690000000"
RAISED: Headers = [("kafka_dlt-exception-fqcn", b"builtins.LookupError")]


@pytest.fixture
def command(rig: Rig) -> Command:
    """A command on the rig's configuration, in this process."""
    return lambda *arguments: main([*map(str, arguments), "--config", str(rig.folder / "shadowstream.yaml")])


def letters(rig: Rig, place: str, values: list[str], headers: Headers | None = None, **more: Any) -> None:
    """Put letters into a side topic."""
    rig.send(place, values, [*(headers or []), *RAISED], **more)


def replay_of(rig: Rig, settings: ss.Settings, topic: str, lane: Lane = Lane.NORMAL, **orders: Any) -> Any:
    """Replay from this process, to its end."""
    with Replay(settings, box_of(settings, topic, BoxKind.DEAD, lane), Orders(**orders)) as replay:
        return replay.run(Event())


def failing_worker(rig: Rig, topic: str) -> None:
    """Let both lanes dead-letter everything that is in a topic."""
    worker = rig.worker(rig.settings({topic: {"retries": 0}}))

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        raise LookupError(f"no such voucher: {text_of(message)}\x1b[31m")

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes past their messages")


def handled(rig: Rig, topic: str, settings: ss.Settings) -> list[tuple[str, str]]:
    """Let both lanes handle what there is; return value and lane of each."""
    seen: list[tuple[str, str]] = []
    worker = rig.worker(settings)
    worker.handles(topic)(lambda message: seen.append((text_of(message), message.lane.value)))
    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")
    return sorted(seen)


def test_ls_shows_what_the_worker_dead_lettered_and_replay_brings_each_back_in_its_lane(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic(partitions=3)
    rig.begin(topic)
    given: Any = [*MARKED, ("trace", b"1")]
    rig.producer.produce(topic, "n0", b"k\xff", partition=2, timestamp=WRITTEN_AT, headers=[("trace", b"1")])
    rig.producer.produce(topic, "s0", "k", partition=1, timestamp=WRITTEN_AT, headers=given)
    assert rig.producer.flush(30) == 0
    failing_worker(rig, topic)

    assert command("dlq", "ls", topic, "--json") == DONE
    *lines, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert summary == {"summary": {"letters": 2, "by": {"builtins.LookupError": 2}, "answered": 0, "expired": 0}}
    normal, shadow = lines
    assert (normal["topic"], normal["lane"], normal["run"]) == (f"{topic}.dlq", "normal", None)
    assert (shadow["topic"], shadow["lane"], shadow["run"]) == (f"{topic}.shadow.dlq", "shadow", "fcst-1111")
    assert normal["original"] | {"group": 0} == {
        "topic": topic, "partition": 2, "offset": 0, "timestamp_ms": WRITTEN_AT, "group": 0,
    }  # fmt: skip
    assert (normal["key"], normal["key_base64"], shadow["key"]) == ("k\\xff", "a/8=", "k")
    here = f"{socket.gethostname()}/{os.getpid()}"
    assert (normal["attempts"], normal["rounds"], normal["due_ms"]) == (1, 0, None)
    assert (normal["client"], shadow["client"]) == (f"tests.normal@{here}", f"tests.shadow@{here}")
    assert normal["exception"] == "builtins.LookupError"
    assert normal["trace"].startswith('File "')
    assert normal["trace"].endswith("in handler")

    assert command("dlq", "ls", topic) == DONE
    table = capsys.readouterr().out
    assert f"{topic}[2]@0" in table
    assert "2023-11-14T22:13:20Z" in table
    assert f"tests.normal@{here}" in table
    assert "\x1b" not in table, "a terminal obeys nothing that an exception says"
    assert "2 letters, 0 answered" in table

    assert command("dlq", "replay", topic, "--yes") == DONE
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == DONE
    assert handled(rig, topic, rig.settings({topic: {}})) == [("n0", "normal"), ("s0", "shadow")]
    back = [message for message in rig.read(topic) if message.offset() == 1]
    assert [(message.partition(), message.key(), message.timestamp()[1]) for message in back] == [
        (1, b"k", WRITTEN_AT),
        (2, b"k\xff", WRITTEN_AT),
    ]
    assert [headers_of(message) for message in back] == [
        [*MARKED, ("trace", b"1"), ("shadowstream-replayed", b"1")],
        [("trace", b"1"), ("shadowstream-replayed", b"1")],
    ]

    before = rig.ends(topic)
    capsys.readouterr()
    assert command("dlq", "replay", topic, "--yes") == NOT_ALL
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == NOT_ALL
    assert capsys.readouterr().out.count("nothing to do") == 2
    assert rig.ends(topic) == before
    assert command("dlq", "ls", topic) == DONE
    assert "2 answered for by earlier replays" in capsys.readouterr().out


def test_a_shadow_letter_goes_back_with_its_mark_byte_for_byte(rig: Rig, command: Command) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    marks = [b"1", b"true", b"1;run=a;exp=%d;hop=7" % (rig.started_at + 3600)]
    for mark in marks:
        letters(rig, f"{topic}.shadow.dlq", ["s"], [("x-shadow", mark)])
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == DONE
    assert [headers_of(message)[0] for message in rig.read(topic)] == [("x-shadow", mark) for mark in marks]


def test_a_letter_without_a_mark_that_can_be_read_is_never_sent_from_shadows_box_nor_a_marked_one_from_normals(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    letters(rig, f"{topic}.shadow.dlq", ["unmarked"])
    letters(rig, f"{topic}.shadow.dlq", ["conflict"], [("x-shadow", b"1;run=a"), ("x-shadow", b"1;run=b")])
    letters(rig, f"{topic}.shadow.dlq", ["stale"], [("x-shadow", STALE)])
    letters(rig, f"{topic}.shadow.dlq", ["good"], MARKED)
    letters(rig, f"{topic}.dlq", ["misrouted"], MARKED)
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == NOT_ALL
    assert command("dlq", "replay", topic, "--yes") == NOT_ALL

    assert rig.values(topic) == ["good"]
    quarantined = {
        text_of(each): dict(headers_of(each))["shadowstream-reason"] for each in rig.read(f"{topic}.quarantine")
    }
    assert quarantined == {"unmarked": b"unmarked", "conflict": b"conflict", "misrouted": b"misrouted"}
    told = capsys.readouterr().out
    assert "sent 1 back" in told
    assert "1 expired" in told
    assert "2 quarantined" in told
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == NOT_ALL
    assert sum(rig.ends(f"{topic}.quarantine").values()) == 3, "each is set aside once"


def test_headers_that_cannot_be_read_are_quarantined_and_the_letters_behind_them_go_on(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}})
    produce(rig.bootstrap, f"{topic}.dlq", b"broken", [(b"\xff", b"1")])
    letters(rig, f"{topic}.dlq", ["good"])
    tally = replay_of(rig, settings, topic)
    assert (tally.sent, tally.not_sent) == (1, 1)
    assert rig.values(topic) == ["good"]
    assert rig.values(f"{topic}.quarantine") == ["broken"]


def test_a_replay_of_shadow_keeps_within_shadows_rate_however_fast_it_was_asked_to_go(
    rig: Rig, command: Command
) -> None:
    topic = rig.topic()
    rig.settings({topic: {}}, rate_limit={"dispatch": {"hard": 1000}, "shadow.dispatch": {"hard": 20, "burst": 1}})
    letters(rig, f"{topic}.shadow.dlq", [f"s{number}" for number in range(30)], MARKED)
    letters(rig, f"{topic}.dlq", [f"n{number}" for number in range(30)])

    began = time.monotonic()
    asked = ("--rate", "1000/s", "--yes")
    assert command("dlq", "replay", topic, "--lane", "shadow", "--command", "dispatch", *asked) == DONE
    assert time.monotonic() - began >= 29 / 20
    began = time.monotonic()
    assert command("dlq", "replay", topic, "--rate", "20/s", "--yes") == DONE
    assert time.monotonic() - began >= (29 - 2) / 20, "the burst of a rate that is asked for is a tenth of a second's"
    assert sum(rig.ends(topic).values()) == 60


def test_the_command_that_a_letter_names_has_its_own_limit(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}}, rate_limit={"shadow.dispatch": {"hard": 0}})
    letters(rig, f"{topic}.shadow.dlq", ["s0"], [*MARKED, ("shadowstream-command", b"anything")])
    letters(rig, f"{topic}.shadow.dlq", ["s1"], [*MARKED, ("shadowstream-command", b"dispatch")])
    tally = replay_of(rig, settings, topic, Lane.SHADOW)
    assert (tally.sent, tally.ending) == (1, Ending.CLOSED)


def test_a_closed_gate_of_shadow_is_told_and_not_waited_for(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    rig.settings({topic: {}}, rate_limit={f"shadow.{topic}": {"hard": 0}})
    letters(rig, f"{topic}.shadow.dlq", ["s0"], MARKED)
    letters(rig, f"{topic}.dlq", ["n0"])
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == NOT_ALL
    assert "gate lets nothing through (rate)" in capsys.readouterr().out
    assert rig.values(topic) == []
    assert command("dlq", "replay", topic, "--yes") == DONE, "shadow's gate holds no normal letter back"
    assert rig.values(topic) == ["n0"]


def test_a_letter_whose_run_ends_while_it_waits_for_the_gate_is_not_sent(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings(
        {topic: {}}, mark={"skew": "0s"}, rate_limit={f"shadow.{topic}": {"hard": "20/m", "burst": 1}}
    )
    ends_soon = b"1;run=a;exp=%d" % (time.time() + 2)
    letters(rig, f"{topic}.shadow.dlq", ["s0", "s1"], [("x-shadow", ends_soon)])
    tally = replay_of(rig, settings, topic, Lane.SHADOW)
    assert (tally.sent, tally.not_sent) == (1, 1)
    assert rig.values(topic) == ["s0"]


def test_letters_that_were_not_meant_are_left_for_the_next_time(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic(partitions=2)
    rig.settings({topic: {}})
    for number in range(20):
        letters(rig, f"{topic}.dlq", [f"n{number}"], key="odd" if number % 2 else "even", partition=number // 10)
    assert command("dlq", "replay", topic, "--match", "key=odd", "--dry-run") == DONE
    assert rig.values(topic) == []
    assert command("dlq", "replay", topic, "--match", "key=odd", "--yes") == DONE
    assert command("dlq", "replay", topic, "--match", "key=odd", "--yes") == NOT_ALL
    assert Counter(rig.values(topic)) == Counter(f"n{number}" for number in range(1, 20, 2))
    assert command("dlq", "replay", topic, "--yes") == DONE
    assert Counter(rig.values(topic)) == Counter(f"n{number}" for number in range(20)), "each once"
    capsys.readouterr()
    assert command("dlq", "replay", topic, "--match", "offset=1:3-4", "--again", "--yes") == DONE
    assert "sent 2 back" in capsys.readouterr().out
    assert command("dlq", "replay", topic, "--yes") == NOT_ALL, "sending again forgets nothing"
    assert rig.committed(f"{rig.group}.replay", f"{topic}.dlq") == {0: 10, 1: 10}


def test_parked_messages_are_handled_by_shadow_and_never_touched_by_normal(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    rig.send(topic, ["s0", "s1"], MARKED)
    closed = rig.settings({topic: {"shadow": {"on_limit": "park"}}}, rate_limit={f"shadow.{topic}": {"hard": 0}})
    assert handled(rig, topic, closed) == [("n0", "normal")]
    letters(rig, f"{topic}.shadow.parked", ["stale"], [("x-shadow", STALE)])
    assert command("parked", "ls", topic) == DONE
    assert "2  refused" in capsys.readouterr().out

    opened = rig.settings({topic: {"shadow": {"on_limit": "park"}}})
    assert command("parked", "drain", topic, "--yes") == NOT_ALL
    assert "sent 2 back" in (told := capsys.readouterr().out)
    assert "1 expired" in told
    assert handled(rig, topic, opened) == [("s0", "shadow"), ("s1", "shadow")]
    assert sum(rig.ends(f"{topic}.shadow.parked").values()) == 3
    assert command("parked", "drain", topic, "--yes") == NOT_ALL
    assert sum(rig.ends(topic).values()) == 5


def test_shadow_letters_go_to_the_topic_that_shadow_reads(rig: Rig, command: Command) -> None:
    topic = rig.topic()
    rig.settings({topic: {"route": "topic"}})
    letters(rig, f"{topic}.shadow.dlq", ["s0"], MARKED)
    letters(rig, f"{topic}.shadow.parked", ["s1"], MARKED)
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == DONE
    assert command("parked", "drain", topic, "--yes") == DONE
    assert rig.values(f"shadow.{topic}") == ["s0", "s1"]
    assert rig.values(topic) == []


class Shell:
    """The command as a process of its own."""

    def __init__(self, rig: Rig, *arguments: str) -> None:
        self.log_path = rig.folder / "replay.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shadowstream", *arguments],
                cwd=rig.folder,
                env=surroundings(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        try:
            return self.process.wait(DEADLINE_S), self.log_path.read_text()
        finally:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_loses_nothing_and_repeats_nothing(rig: Rig, number: signal.Signals) -> None:
    topic = rig.topic(partitions=2)
    rig.settings({topic: {}})
    values = [f"n{number}" for number in range(200)]
    letters(rig, f"{topic}.dlq", values[:100], partition=0)
    letters(rig, f"{topic}.dlq", values[100:], partition=1)
    first = Shell(rig, "dlq", "replay", topic, "--rate", "40/s", "--yes")
    eventually(lambda: sum(rig.ends(topic).values()) >= 10, "some letters back")
    first.process.send_signal(number)
    code, said = first.ended()
    assert code == INTERRUPTED, said
    assert "interrupted: what was delivered is remembered" in said
    sent = sum(rig.ends(topic).values())
    assert 10 <= sent < 200
    assert f"sent {sent} back" in said
    assert Shell(rig, "dlq", "replay", topic, "--rate", "2000/s", "--yes").ended()[0] == DONE
    assert Counter(rig.values(topic)) == Counter(values), "each exactly once"


def test_a_killed_replay_repeats_nothing_that_was_committed(rig: Rig) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    values = [f"n{number}" for number in range(300)]
    letters(rig, f"{topic}.dlq", values)
    group = f"{rig.group}.replay"
    first = Shell(rig, "dlq", "replay", topic, "--rate", "100/s", "--yes")
    eventually(lambda: rig.committed(group, f"{topic}.dlq").get(0, 0) >= 20, "a commit")
    first.process.kill()
    assert first.ended()[0] == -signal.SIGKILL
    committed = rig.committed(group, f"{topic}.dlq")[0]
    assert Shell(rig, "dlq", "replay", topic, "--rate", "2000/s", "--yes").ended()[0] == DONE
    sent = Counter(rig.values(topic))
    assert set(sent) == set(values)
    assert all(sent[value] == 1 for value in values[:committed])
    assert sum(sent.values()) - len(values) <= 100


def test_nobody_to_ask_means_that_nothing_is_sent(rig: Rig) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    letters(rig, f"{topic}.dlq", ["n0"])
    code, said = Shell(rig, "dlq", "replay", topic).ended()
    assert code == SETUP
    assert "--yes" in said
    assert rig.values(topic) == []


def test_reading_ends_though_markers_of_transactions_stand_at_the_end(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}})
    place = f"{topic}.dlq"
    writer = Producer({"bootstrap.servers": rig.bootstrap, "transactional.id": rig.group})
    writer.init_transactions(DEADLINE_S)
    for value, end in (("n0", writer.commit_transaction), ("aborted", writer.abort_transaction), ("open", None)):
        writer.begin_transaction()
        writer.produce(place, value)
        assert writer.flush(DEADLINE_S) == 0
        if end is not None:
            end(DEADLINE_S)
    assert command("dlq", "ls", topic, "--json") == DONE
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["letters"] == 1
    assert replay_of(rig, settings, topic).sent == 1
    writer.commit_transaction(DEADLINE_S)
    assert replay_of(rig, settings, topic).sent == 1, "what was open comes the next time"
    assert rig.values(topic) == ["n0", "open"]
    assert command("dlq", "replay", topic, "--yes") == NOT_ALL


def test_progress_in_a_topic_that_was_made_anew_is_forgotten(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}})
    place = f"{topic}.dlq"
    letters(rig, place, ["n0", "n1", "n2"])
    assert replay_of(rig, settings, topic).sent == 3
    rig.commit(f"{rig.group}.replay", {TopicPartition(place, 0): 1000})
    letters(rig, place, ["n3"])
    assert replay_of(rig, settings, topic).sent == 4


def test_the_producer_of_a_replay_takes_no_transactional_id(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    names = {"transactional.id": rig.group}
    settings = rig.settings({topic: {}}, kafka=names, **{"shadow.kafka": {"transactional.id": f"{rig.group}.shadow"}})
    service = Producer({"bootstrap.servers": rig.bootstrap, **names})
    service.init_transactions(DEADLINE_S)
    service.begin_transaction()
    letters(rig, f"{topic}.dlq", ["n0"])
    assert replay_of(rig, settings, topic).sent == 1
    service.produce(out, "own")
    service.commit_transaction(DEADLINE_S)
    assert rig.values(topic) == ["n0"]


def test_a_letter_that_cannot_be_delivered_ends_the_replay_and_what_went_before_is_remembered(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topics("in", aside=False)[0]
    rig.kafka.create_topics({f"{topic}.dlq": 1})
    rig.settings({topic: {}}, kafka={"topic.metadata.propagation.max.ms": 500})
    letters(rig, f"{topic}.dlq", ["n0"])
    letters(rig, f"{topic}.dlq", ["misrouted"], MARKED)
    assert command("dlq", "replay", topic, "--yes") == BROKER
    told = capsys.readouterr().err
    assert f"{topic}.quarantine" in told
    assert "create the topic" in told
    rig.kafka.create_topics({f"{topic}.quarantine": 1})
    assert command("dlq", "replay", topic, "--yes") == NOT_ALL
    assert rig.values(topic) == ["n0"]
    assert rig.values(f"{topic}.quarantine") == ["misrouted"]


def test_a_letter_that_the_broker_holds_against_itself_alone_is_refused_and_the_others_go(rig: Rig) -> None:
    small = f"{rig.group}-small"
    rig.kafka.create_topics({small: 1}, {"max.message.bytes": "2000"})
    rig.kafka.create_topics({f"{small}.dlq": 1})
    settings = rig.settings({small: {}})
    letters(rig, f"{small}.dlq", ["n0", "x" * 5000, "n1"])
    tally = replay_of(rig, settings, small)
    assert (tally.sent, tally.not_sent) == (2, 1)
    assert [reason for _, reason in tally.reasons] == ["msg_size_too_large"]
    assert rig.values(small) == ["n0", "n1"]


@pytest.mark.parametrize("arguments", [("dlq", "ls"), ("dlq", "replay", "--yes"), ("parked", "drain", "--yes")])
def test_a_side_topic_that_is_not_there_is_named_with_what_there_is(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    topic = rig.topics("in", aside=False)[0]
    rig.settings({topic: {}})
    assert command(*arguments, topic) == BROKER
    told = capsys.readouterr().err
    assert f"of this topic there are: {topic}." in told
    assert f"{topic}.{'shadow.parked' if 'parked' in arguments else 'dlq'}" in told


def test_a_name_that_is_wrong_is_told_with_the_cure(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    assert command("dlq", "ls", f"{topic}.shadow.dlq") == SETUP
    assert f"name the topic itself, {topic}" in capsys.readouterr().err
    assert command("dlq", "ls", "other") == SETUP
    assert "is not configured" in capsys.readouterr().err
    assert command("dlq", "replay", topic, "--rate", "0/s") == SETUP
    assert "above 0" in capsys.readouterr().err
    rig.settings({topic: {"shadow": False}})
    letters(rig, f"{topic}.shadow.dlq", ["s0"], MARKED)
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == SETUP
    assert "takes no part in shadow traffic" in capsys.readouterr().err
    assert rig.values(topic) == []


def test_an_empty_box_is_told_and_so_is_one_without_letters_since_then(
    rig: Rig, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    assert command("dlq", "ls", topic) == NOT_ALL
    assert f"no letters in {topic}.dlq or {topic}.shadow.dlq" in capsys.readouterr().out
    letters(rig, f"{topic}.dlq", ["old"], timestamp=WRITTEN_AT)
    letters(rig, f"{topic}.dlq", ["new"])
    assert command("dlq", "ls", topic, "--since", "1h", "--json") == DONE
    assert json.loads(capsys.readouterr().out.splitlines()[0])["offset"] == 1
    assert command("dlq", "ls", topic, "--limit", "1") == DONE
    assert "... and 1 more" in capsys.readouterr().out
    assert command("dlq", "ls", topic, "--since", "soon") == SETUP
    assert rig.members(f"{rig.group}.replay") == []


def test_the_marks_of_other_lanes_groups_stay_where_they_are(rig: Rig, command: Command) -> None:
    topic = rig.topic()
    rig.settings({topic: {}})
    letters(rig, f"{topic}.shadow.dlq", ["s0"], [("x-shadow", MARK)])
    assert command("dlq", "replay", topic, "--lane", "shadow", "--yes") == DONE
    assert rig.committed(f"{rig.group}.shadow.replay", f"{topic}.shadow.dlq") == {0: 1}
    for group in (f"{rig.group}.replay", rig.group, f"{rig.group}.shadow"):
        assert rig.committed(group, f"{topic}.shadow.dlq") == {}
