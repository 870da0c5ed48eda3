"""The lane along a chain of topics, beside clients that know nothing of it, and on topics of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

import shadowstream as ss
from shadowstream.headers import MarkReader
from shadowstream.lane import Lane
from tests.broker.rig import MARK, MARKED, SECRET, SIGNED, eventually, headers_of, text_of

if TYPE_CHECKING:
    from shadowstream.events import Event
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]


def marks(rig: Rig, topic: str) -> dict[str, list[bytes | None]]:
    """Return the mark headers of each message of a topic, by value."""
    return {
        text_of(message): [value for name, value in headers_of(message) if name == "x-shadow"]
        for message in rig.read(topic)
    }


def test_a_mark_survives_four_hops_and_normal_messages_beside_it_carry_none(rig: Rig) -> None:
    chain = rig.topics("t0", "t1", "t2", "t3", "t4")
    settings = rig.settings({topic: {"order": "key", "concurrency": 2} for topic in chain}, mark=SIGNED)
    worker, producer = rig.worker(settings), ss.Producer(settings)
    seen: list[tuple[str, str, bool]] = []

    def passed_on(after: str) -> Any:
        def handler(message: ss.Message) -> None:
            value = text_of(message)
            seen.append((message.topic() or "", value, ss.is_shadow()))
            producer.produce(after, message.value(), message.key(), headers=[("trace", b"1")])

        async def in_a_thread(message: ss.Message) -> None:
            await asyncio.create_task(asyncio.to_thread(handler, message))

        return in_a_thread if after == chain[2] else handler

    for before, after in itertools.pairwise(chain):
        worker.handles(before)(passed_on(after))
    rig.begin(*chain)

    with worker:
        rig.send(chain[0], [f"n{number}" for number in range(20)], key="k")
        with ss.entered(ss.Mark(run="fcst-1111")):
            for number in range(20):
                producer.produce(chain[0], f"s{number}", f"k{number % 3}")
        producer.flush(10)
        eventually(lambda: rig.ends(chain[4]) == {0: 40}, "40 messages at the end of the chain")

    assert sum(rig.ends(chain[4]).values()) == 40
    signatures = set()
    for hop, topic in enumerate(chain, start=1):
        for value, found in marks(rig, topic).items():
            if value.startswith("n"):
                assert found == []
                continue
            (raw,) = found
            reading = MarkReader(keys={"k1": SECRET.encode()}, signed=True).read([("x-shadow", raw)], rig.started_at)
            assert reading.mark is not None, reading
            assert (reading.mark.run, reading.mark.hop) == ("fcst-1111", hop)
            signatures.add((reading.mark.signature, reading.mark.expires_at))
    assert len(signatures) == 1
    assert all(shadow is value.startswith("s") for _, value, shadow in seen)
    assert len(seen) == 4 * 40
    assert [message.headers() for message in rig.read(chain[4]) if text_of(message).startswith("n")] == [
        [("trace", b"1")]
    ] * 20


def test_a_retry_and_a_redelivery_stay_in_their_lane(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    settings = rig.settings({topic: {"retries": 1, "backoff": "1ms"}, out: {}})
    producer = ss.Producer(settings)
    lanes: list[tuple[str, bool]] = []

    def build() -> ss.Worker:
        worker = rig.worker(settings)

        @worker.handles(topic)
        def handler(message: ss.Message) -> None:
            value = text_of(message)
            lanes.append((value, ss.is_shadow()))
            if lanes.count((value, ss.is_shadow())) == 1:
                raise ValueError(value)
            producer.produce(out, value)

        return worker

    rig.begin(topic)
    rig.send(topic, ["n0"])
    rig.send(topic, ["s0"], MARKED)
    for round_ in (1, 2):
        with build():
            eventually(lambda: rig.both_caught_up(topic), f"both lanes done, round {round_}")
        rig.begin(topic)

    assert sorted(lanes) == [("n0", False)] * 3 + [("s0", True)] * 3
    assert marks(rig, out) == {"n0": [], "s0": [b"1;run=fcst-1111;exp=%d;hop=1" % expiry(rig, out)]}


def expiry(rig: Rig, topic: str) -> int:
    """Return the expiry of the newest mark in a topic, for what is given at the moment of producing."""
    found = [MarkReader().read(headers_of(message), rig.started_at).mark for message in rig.read(topic)]
    return max(mark.expires_at or 0 for mark in found if mark is not None)


def test_a_consumer_that_knows_nothing_of_marks_still_reads_our_messages_and_ours_reads_a_plain_producers(
    rig: Rig,
) -> None:
    topic = rig.topic(partitions=3)
    settings = rig.settings({topic: {}})
    worker, producer = rig.worker(settings), ss.Producer(settings)
    got: list[tuple[Lane, bytes | None, bytes | None, Any]] = []
    worker.handles(topic)(lambda message: got.append((message.lane, message.key(), message.value(), message.headers())))
    expires_at = int(rig.started_at) + 3600
    producer.produce(topic, b"ours", b"k1", 0, headers={"trace": b"7"})
    with ss.entered(ss.Mark(run="fcst-1111", expires_at=expires_at)):
        producer.produce(topic, b"marked", b"k2", 1, timestamp=1_700_000_000_123, headers={"trace": b"8"})
    assert producer.flush(10) == 0
    rig.send(topic, ["plain"], [("trace", b"9"), ("trace", None)], key=b"k3", partition=2)
    rig.begin(topic)

    with worker:
        eventually(lambda: len(got) == 3, "three messages handled")

    assert rig.read(topic)[1].timestamp()[1] == 1_700_000_000_123
    foreign = [(message.key(), message.value(), message.headers()) for message in rig.read(topic)]
    mark = b"1;run=fcst-1111;exp=%d;hop=1" % expires_at
    assert foreign == [
        (b"k1", b"ours", [("trace", b"7")]),
        (b"k2", b"marked", [("trace", b"8"), ("x-shadow", mark)]),
        (b"k3", b"plain", [("trace", b"9"), ("trace", None)]),
    ]
    lanes = (Lane.NORMAL, Lane.SHADOW, Lane.NORMAL)
    assert sorted(got, key=lambda what: what[1] or b"") == [
        (lane, *what) for lane, what in zip(lanes, foreign, strict=True)
    ]


def test_with_a_topic_of_its_own_shadow_never_touches_the_plain_one_and_each_lane_is_handled(rig: Rig) -> None:
    topic, out = rig.topics("in", "out")
    settings = rig.settings({name: {"route": "topic"} for name in (topic, out)})
    worker, producer = rig.worker(settings), ss.Producer(settings)

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        producer.produce(out, f"{message.lane} {text_of(message)} {message.topic()}")

    producer.produce(topic, "a")
    with ss.entered(ss.Mark(run="fcst-1111")):
        producer.produce(topic, "b")
    assert producer.flush(10) == 0
    with worker:
        eventually(lambda: rig.ends(out) == {0: 1} and rig.ends(f"shadow.{out}") == {0: 1}, "one output in each lane")

    assert (rig.values(topic), rig.values(f"shadow.{topic}")) == (["a"], ["b"])
    assert (rig.values(out), rig.values(f"shadow.{out}")) == ([f"normal a {topic}"], [f"shadow b shadow.{topic}"])


def test_a_message_on_the_other_lanes_topic_is_quarantined_and_never_handled(rig: Rig) -> None:
    topic = rig.topic()
    worker = rig.worker(rig.settings({topic: {"route": "topic"}}))
    handled: list[str] = []
    worker.handles(topic)(lambda message: handled.append(text_of(message)))
    rig.send(topic, ["astray"], MARKED)
    rig.send(topic, ["normal"])
    rig.send(f"shadow.{topic}", ["unmarked"])
    rig.send(f"shadow.{topic}", ["shadow"], MARKED)

    with worker:
        eventually(lambda: rig.ends(f"{topic}.quarantine") == {0: 2} and len(handled) == 2, "two aside, two handled")
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the normal cursor past the stray message")
        eventually(
            lambda: rig.committed(rig.group_of(Lane.SHADOW), f"shadow.{topic}") == {0: 2}, "the shadow cursor as well"
        )

    assert sorted(handled) == ["normal", "shadow"]
    reasons = {
        text_of(message): dict(headers_of(message))["shadowstream-reason"]
        for message in rig.read(f"{topic}.quarantine")
    }
    assert reasons == {"astray": b"misrouted", "unmarked": b"unmarked"}
    assert rig.heard.outcomes(Lane.NORMAL) == rig.heard.outcomes(Lane.SHADOW) == {"handled": 1, "quarantined": 1}


def test_a_full_shadow_queue_refuses_no_normal_message(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {}}, **{"shadow.kafka": {"queue.buffering.max.messages": 5}})
    producer = ss.Producer(settings, max_block_s=0.1)

    with ss.entered(ss.Mark(run="fcst-1111")):
        # A topic that nobody created keeps its messages in the queue.
        for _ in range(5):
            producer.produce(f"{topic}.nowhere", "s")
        with pytest.raises(BufferError, match="stayed full"):
            producer.produce(f"{topic}.nowhere", "s")
    for number in range(20):
        producer.produce(topic, str(number))
    eventually(lambda: rig.ends(topic) == {0: 20}, "every normal message delivered")

    producer.poll(0)
    assert len(producer) == 5


@pytest.mark.parametrize(("kind", "copies"), [("park", 3), ("shed", 0)])
def test_the_thin_consumer_parks_or_sheds_what_is_refused_before_poll_returns(rig: Rig, kind: str, copies: int) -> None:
    topic = rig.topic()
    settings = rig.settings(
        {topic: {"shadow": {"on_limit": kind}}},
        rate_limit={f"shadow.{topic}": {"hard": "1/h", "burst": 1}},
        # Copies lie in the client's queue for a while, so whoever does not wait for them is found out.
        kafka={"linger.ms": 500},
    )
    rig.send(topic, ["s0", "s1", "s2", "s3"], MARKED)
    rig.send(topic, ["n0"])
    lanes: list[tuple[str, bool]] = []

    with ss.Consumer(settings, [topic], hooks=[rig.heard]) as consumer:
        while len(lanes) < 2:
            message = consumer.poll(10.0)
            assert message is not None
            assert message.error() is None, message.error()
            with consumer.lane_of(message):
                lanes.append((text_of(message), ss.is_shadow()))
        # Not waited for: poll() has returned n0, so what it parked before must be there already.
        parked = rig.values(f"{topic}.shadow.parked")
        consumer.commit(asynchronous=False)

    assert lanes == [("s0", True), ("n0", False)]
    assert parked == ["s1", "s2", "s3"][:copies]
    assert [dict(headers_of(each))["x-shadow"] for each in rig.read(f"{topic}.shadow.parked")] == [MARK] * copies
    assert rig.committed(rig.group, topic) == {0: 5}
    assert rig.heard.outcomes(Lane.SHADOW) == {"handled": 1, {"park": "parked", "shed": "shed"}[kind]: 3}
    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 1}


def test_the_thin_consumer_returns_within_its_timeout_while_it_sheds_a_backlog(rig: Rig) -> None:
    topic = rig.topic()
    settings = rig.settings({topic: {"shadow": {"on_limit": "shed"}}}, rate_limit={f"shadow.{topic}": {"hard": 0}})
    rig.send(topic, range(300), MARKED)

    class Slow:
        """A hook that makes shedding slower than fetching, so that there is always one more message at hand."""

        def on(self, _: Event) -> None:
            time.sleep(0.005)

    with ss.Consumer(settings, [topic], hooks=[rig.heard, Slow()]) as consumer:
        eventually(lambda: consumer.poll(0.05) is None and rig.heard.outcomes(Lane.SHADOW), "the first one shed")
        shed_in_one_poll = rig.heard.outcomes(Lane.SHADOW)["shed"]
        eventually(
            lambda: consumer.poll(0.05) is None and rig.heard.outcomes(Lane.SHADOW) == {"shed": 300}, "all of them"
        )

    assert shed_in_one_poll < 300
