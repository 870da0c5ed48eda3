"""Transactions of a lane, on a broker in memory: what handlers produce and where their sources stand, together."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextvars import copy_context
from functools import partial
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

import shadowstream as ss
from shadowstream.config import TopicSettings
from shadowstream.errors import BrokerError, SetupError
from shadowstream.events import Carried, CommitFailed, Listeners
from shadowstream.gate import Verdict
from shadowstream.kafka.clients import consumer_properties, producer_properties
from shadowstream.kafka.clock import Clock as Moments
from shadowstream.kafka.cursor.commits import Wait
from shadowstream.kafka.offsets import Done, Piece, Window
from shadowstream.kafka.transactions.ledger import Entry, Shelf
from shadowstream.kafka.transactions.outbox import Output
from shadowstream.kafka.worker.assembly import Ground, Registration, assemble
from shadowstream.lane import Lane
from shadowstream.testing import Broker, Clock, MemoryConsumer, MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import LaneSettings
    from shadowstream.events import Event as Fact
    from shadowstream.kafka.cursor import Cursor, Parts
    from shadowstream.kafka.engine import Binding, Engine
    from shadowstream.kafka.transactions.transaction import Ending, Transaction

MARKED = [("x-shadow", b"1;run=fcst-1111")]
TIMES = 60
"""Turns after which what was going to happen has happened."""


class Inline:
    """Hands that carry a piece at once, on the owner's thread; a test may keep pieces back."""

    def __init__(self, engine: Engine, parts: Parts, kept: Callable[[RawMessage], bool], clock: Clock) -> None:
        self.engine = engine
        self._parts = parts
        self._kept = kept
        self._clock = clock
        self.later: list[Piece] = []

    def pieces(self, partition: int, messages: list[RawMessage]) -> list[Piece]:
        return [Piece([message], (partition, message.key())) for message in messages]

    def put(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if self._kept(piece.messages[0]):
                self.later.append(piece)
            else:
                self.carry(piece)

    def carry(self, piece: Piece) -> None:
        course: Coroutine[Any, Any, None] = self.engine.carry(piece, self)
        with pytest.raises(StopIteration):
            course.send(None)
        self._parts.ended(None)

    async def wait(self, seconds: float, piece: Piece) -> None:
        self._clock.advance(seconds)

    async def rest(self, seconds: float, piece: Piece) -> None:
        self._clock.advance(seconds)

    def level(self) -> float:
        return 0.0

    def waiting(self) -> int:
        return 0

    def leader(self) -> None: ...

    def recall(self) -> None:
        for piece in self.later:
            if piece.cancelled:
                self.carry(piece)
        self.later = [piece for piece in self.later if not piece.cancelled]

    def end(self) -> None: ...


class Here:
    """A lane's transactions on its owner's thread: time passes when the brokers do not answer."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._transaction = transaction
        self._clock = clock
        self.ready, self.begin, self.call_off = transaction.ready, transaction.begin, transaction.call_off

    def go_on(self, seconds: float) -> Ending | None:
        until = self._clock.monotonic() + seconds
        while (ending := self._transaction.go_on(0.0)) is None and self._clock.monotonic() < until:
            self._clock.advance(0.02)
        return ending


class House:
    """One service's lanes on one broker in memory."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self.folder = folder
        self.facts: list[Fact] = []
        self.producers: list[MemoryProducer] = []
        self.cursors: list[Cursor] = []
        self.crews: dict[str, Inline] = {}
        self.kept: Callable[[RawMessage], bool] = lambda _: False
        self.settings: ss.Settings
        self.producer: ss.Producer
        self._outer = MemoryProducer({"client.id": "outer"}, broker=self.broker)
        for topic in ("in", "out", "in.dlq", "in.shadow.dlq", "in.shadow.parked", "in.quarantine"):
            self.broker.create_topic(topic, partitions=2)

    def on(self, event: Fact) -> None:
        self.facts.append(event)

    def configure(self, topic: dict[str, Any] | None = None, **sections: Any) -> None:
        kafka = {"bootstrap.servers": "memory", "group.id": "g", **sections.pop("kafka", {})}
        document = {
            "service": "tests",
            "kafka": kafka,
            "topics": {"in": {"transactional": True, "retries": 0, **(topic or {})}, "other": {}},
            "worker": {"commit_every": "100ms", "drain": "1s", "revoke": "1s"},
            **sections,
        }
        path = self.folder / "c.yaml"
        path.write_text(json.dumps(document))
        self.settings = ss.load(path, environ={})
        self.producer = ss.Producer(self.settings, client_of=self._producer_of)  # type: ignore[arg-type]

    def send(self, values: Iterable[str], *, topic: str = "in", partition: int = 0, headers: Any = None) -> None:
        """Produce each of them, a letter mostly, as a message from outside, keyed by its first letter."""
        for value in values:
            self._outer.produce(topic, value, value[:1], partition=partition, headers=headers)
        assert self._outer.flush() == 0

    def transactional(self) -> MemoryProducer:
        """Return the producer of the one lane's transactions."""
        (found,) = [producer for producer in self.producers if producer._author.id]
        return found

    def lane(
        self,
        handler: Callable[[Any], object],
        lane: Lane = Lane.NORMAL,
        batch: int | None = None,
        *,
        begin: bool = True,
    ) -> Cursor:
        """Put a lane together with this handler, and let it begin."""
        ground = Ground(
            consumer=lambda ours, **more: MemoryConsumer(consumer_properties(ours) | more, broker=self.broker),  # type: ignore[arg-type, return-value]
            producer=self._producer_of,  # type: ignore[arg-type]
            crew=self._crew,
            clock=Moments(self.clock.monotonic, self.clock.time, lambda: 0.5),
            event=Event,
            aside=lambda make, _: Here(make(), self.clock),  # type: ignore[arg-type, return-value]
        )
        registration = Registration("in", "work", handler, batch)
        cursor = assemble(self.settings, lane, [registration], Listeners([self]), ground)
        if begin:
            cursor.begin()
        self.cursors.append(cursor)
        return cursor

    def _crew(self, engine: Engine, parts: Parts, _loop: object) -> Inline:
        crew = Inline(engine, parts, self.kept, self.clock)
        self.crews[engine.binding.lane] = crew
        return crew

    def _producer_of(self, ours: LaneSettings, **more: Any) -> MemoryProducer:
        producer = MemoryProducer(producer_properties(ours) | more, broker=self.broker)
        self.producers.append(producer)
        return producer

    def turns(self, *cursors: Cursor, until: Callable[[], object] | None = None) -> None:
        """Let cursors turn, some time, or until something holds."""
        for _ in range(TIMES):
            if until is not None and until():
                return
            for cursor in cursors or self.cursors:
                cursor.turn()
        assert until is None, "it never came about"

    def seen(self, topic: str = "out", *, committed: bool = True) -> list[str]:
        """Return the values that a reader of this topic sees, sorted."""
        isolation = "read_committed" if committed else "read_uncommitted"
        reader = MemoryConsumer(
            {"group.id": "reader", "enable.auto.commit": False, "isolation.level": isolation}, broker=self.broker
        )
        reader.assign([TopicPartition(topic, partition, 0) for partition in (0, 1)])
        values = []
        while (message := reader.poll(0.5)) is not None:
            values.append((message.value() or b"").decode())
        reader.close()
        return sorted(values)

    def stands(self, group: str = "g") -> dict[int, int]:
        """Return where a group stands in the topic, by partition."""
        asker = MemoryConsumer({"group.id": group, "enable.auto.commit": False}, broker=self.broker)
        found = asker.committed([TopicPartition("in", partition) for partition in (0, 1)])
        asker.close()
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def outcomes(self) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for fact in self.facts:
            if isinstance(fact, Carried):
                sums.update({outcome.value: count for outcome, count in fact.outcomes.items() if count})
        return dict(sums)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.configure()
    return made


def passing_on(house: House, calls: list[str] | None = None) -> Callable[[Any], None]:
    def handler(message: ss.Message) -> None:
        if calls is not None:
            calls.append((message.value() or b"").decode())
        house.producer.produce("out", message.value(), message.key())

    return handler


# What belongs together


def test_what_a_handler_produces_waits_for_its_source(house: House) -> None:
    house.send("abc")
    waited: list[list[str]] = []

    def handler(message: ss.Message) -> None:
        house.producer.produce("out", message.value())
        waited.append(house.seen(committed=False))

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 3})
    assert waited == [[], [], []], "nothing is out while handlers run"
    assert house.seen() == ["a", "b", "c"]
    house.turns(until=lambda: house.outcomes() == {"handled": 3})


def test_a_retry_leaves_nothing_of_the_failed_attempt(house: House) -> None:
    house.configure({"retries": 2, "backoff": "10ms"})
    house.send("a")
    attempts: list[int] = []

    def handler(message: ss.Message) -> None:
        attempts.append(len(attempts))
        house.producer.produce("out", f"{attempts[-1]}")
        if len(attempts) < 3:
            raise ValueError("not yet")

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 1})
    assert house.seen(committed=False) == ["2"]


def test_a_poison_message_is_dead_lettered_in_the_transaction_that_passes_it(house: House) -> None:
    house.send("axb")

    def handler(message: ss.Message) -> None:
        house.producer.produce("out", message.value())
        if message.value() == b"x":
            raise ValueError("poison")

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 3})
    assert (house.seen(), house.seen("in.dlq")) == (["a", "b"], ["x"])
    assert house.seen(committed=False) == ["a", "b"], "of the failed call nothing was ever out"
    house.turns(until=lambda: house.outcomes() == {"handled": 2, "failed": 1})


def test_an_aborted_transaction_is_done_anew_and_no_handler_runs_twice(house: House) -> None:
    house.send("abc")
    calls: list[str] = []
    house.broker.faults.fail_deliveries()
    cursor = house.lane(passing_on(house, calls))
    house.turns(until=lambda: house.stands() == {0: 3})
    assert calls == ["a", "b", "c"]
    assert house.seen() == ["a", "b", "c"]
    assert [fact for fact in house.facts if isinstance(fact, CommitFailed)], "and it was told"
    house.turns(until=lambda: house.outcomes() == {"handled": 3})
    cursor.close()


def test_messages_without_outputs_are_committed_and_counted_too(house: House) -> None:
    house.send("abc")
    house.lane(lambda _: None)
    house.turns(until=lambda: house.stands() == {0: 3})
    house.turns(until=lambda: house.outcomes() == {"handled": 3})


def test_a_batch_is_passed_by_the_transaction_of_its_outputs(house: House) -> None:
    house.send("abcd")

    def handler(messages: list[ss.Message]) -> None:
        house.producer.produce("out", b"".join(message.value() or b"" for message in messages))

    house.lane(handler, batch=10)
    house.turns(until=lambda: house.stands() == {0: 4})
    assert house.seen() == ["a", "b", "c", "d"]
    house.turns(until=lambda: house.outcomes() == {"handled": 4})


@pytest.mark.parametrize("awaitable", [False, True])
def test_outputs_of_async_handlers_wait_too_and_those_of_a_forgotten_await_do_not_count(
    house: House, awaitable: bool
) -> None:
    house.send("a")

    async def handler(message: ss.Message) -> None:
        house.producer.produce("out", message.value())

    def forgetful(message: ss.Message) -> object:
        house.producer.produce("out", message.value())
        return handler(message)

    house.lane(forgetful if awaitable else handler)
    house.turns(until=lambda: house.stands() == {0: 1})
    assert (house.seen(), house.seen("in.dlq")) == (([], ["a"]) if awaitable else (["a"], []))


def test_a_refused_shadow_message_is_parked_in_the_transaction_that_passes_it(house: House) -> None:
    house.configure({"shadow": {"on_limit": "park"}}, rate_limit={"shadow.work": {"hard": "0/s"}})
    house.send("xyz", headers=MARKED)
    house.lane(passing_on(house), Lane.SHADOW)
    house.turns(until=lambda: house.stands("g.shadow") == {0: 3, 1: 0})
    assert (house.seen(), house.seen("in.shadow.parked")) == ([], ["x", "y", "z"])
    house.turns(until=lambda: house.outcomes() == {"parked": 3})


def test_whoever_asked_is_told_once_when_it_is_committed_and_may_raise(house: House) -> None:
    house.send("ab")
    told: list[tuple[KafkaError | None, list[str]]] = []

    def raising(error: KafkaError | None, _: object) -> None:
        told.append((error, house.seen()))
        raise ValueError("not ours")

    house.broker.faults.fail_deliveries()
    house.lane(lambda message: house.producer.produce("out", message.value(), on_delivery=raising))
    house.turns(until=lambda: house.stands() == {0: 2})
    assert told == [(None, ["a", "b"])] * 2


# Who is answered for


def test_what_is_finished_above_the_commit_is_said_in_it_and_out(house: House) -> None:
    house.send("abcd")
    house.kept = lambda raw: raw.value() == b"b"
    house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    assert house.seen() == ["a", "c", "d"], "what is finished above the commit is said in it, and is out"
    (ledger,) = [window.ledger for place, window in house.cursors[0]._windows.items() if place == ("in", 0)]
    assert ledger is not None
    # As if a hand had put its output down, and had not come to count its message as done.
    ledger.put(Entry(1, [Output("out", "put down", None, -1, 0, None)], house.crews["normal"].later[0]))
    house.send("e")
    house.turns(until=lambda: "e" in house.seen())
    assert house.seen() == ["a", "c", "d", "e"]
    house.crews["normal"].carry(house.crews["normal"].later.pop())
    house.turns(until=lambda: house.stands() == {0: 5})
    assert house.seen() == ["a", "b", "c", "d", "e", "put down"]


def test_outputs_go_by_what_the_commit_says_and_not_by_what_is_done() -> None:
    shelf = Shelf(TopicSettings("in", "in", max_messages=100_000))
    window, chance = Window(0), Random(1)
    window.ledger = ledger = shelf.ledger()
    finished = set()
    for offset in range(40_000):
        piece = Piece([Message(topic="in", partition=0, offset=offset, value=b"v")])
        window.opened(piece)
        if offset and chance.random() < 0.5:
            ledger.put(Entry(offset, [Output("out", "v", None, -1, 0, None)], piece))
            piece.done = 1
            finished.add(offset)
    due = window.due()
    assert due is not None
    said = Done.read(due.metadata, due.offset)
    taken = {entry.offset for entry in ledger.take(due.covers)}
    assert taken == {offset for offset in finished if offset in said}
    assert 0 < len(taken) < len(finished), "a broker does not take so long a list"


def test_what_is_put_back_comes_first_again() -> None:
    ledger = Shelf(TopicSettings("in", "in")).ledger()
    entries = [Entry(offset, [Output("out", "v", None, -1, 0, None)], Piece([])) for offset in (3, 4, 9)]
    for entry in entries:
        ledger.put(entry)
    assert ledger.take(lambda offset: offset < 5) == entries[:2]
    assert ledger.take(lambda offset: offset < 5) == []
    ledger.put_back(entries[:1])
    assert ledger.take(lambda offset: True) == [entries[0], entries[2]]


def test_a_restart_between_produce_and_commit_repeats_the_handler_and_not_the_output(house: House) -> None:
    house.configure(kafka={"group.instance.id": "one"})
    house.send("abc")
    calls: list[str] = []
    first = house.lane(passing_on(house, calls))
    transactional = house.transactional()
    transactional.commit_transaction = partial(_dies, transactional)  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        house.turns(first)
    assert house.seen(committed=False) == ["a", "b", "c"]
    assert house.seen() == []
    house.cursors.clear()
    first._consumer.crash()  # type: ignore[attr-defined]
    transactional.crash()
    house.lane(passing_on(house, calls))
    house.turns(until=lambda: house.stands() == {0: 3})
    assert calls == ["a", "b", "c"] * 2
    assert house.seen() == ["a", "b", "c"]


def _dies(producer: MemoryProducer, _seconds: float) -> None:
    """Be killed when everything is out and nothing is committed."""
    producer.flush()
    raise KeyboardInterrupt


def test_the_lanes_have_transactions_of_their_own_and_never_fence_each_other(house: House) -> None:
    house.configure(kafka={"group.instance.id": "one"})
    house.send("abc")
    house.send("xyz", headers=MARKED)
    both = [house.lane(passing_on(house), lane) for lane in (Lane.SHADOW, Lane.NORMAL)]
    for value in "def":
        house.turns(*both)
        house.send(value)
        house.send(value.upper(), headers=MARKED)
    house.turns(*both)
    assert house.seen() == sorted("abcdefDEFxyz")
    ids = {producer._author.id for producer in house.producers} - {""}
    assert ids == {"g.one.normal", "g.shadow.one.shadow"}


def test_a_lane_whose_id_somebody_took_stops_with_a_clear_error(house: House) -> None:
    house.configure(kafka={"group.instance.id": "one"})
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    thief = MemoryProducer({"transactional.id": "g.one.normal"}, broker=house.broker)
    thief.init_transactions()
    house.send("b")
    with pytest.raises(BrokerError, match=r"g\.one\.normal.*group\.instance\.id"):
        house.turns()
    cursor.close()
    assert cursor._consumer.list_topics, "and closes in good order"
    assert house.seen() == ["a"]


def test_a_commit_that_is_not_answered_is_asked_for_again_and_happens_once(house: House) -> None:
    house.send("ab")
    calls: list[str] = []
    house.lane(passing_on(house, calls))
    transactional = house.transactional()
    ends = transactional.commit_transaction
    asked: list[int] = []

    def late(seconds: float) -> None:
        """Commit at the first call, and answer at the third."""
        asked.append(len(asked))
        if len(asked) == 1:
            ends(seconds)
        if len(asked) < 3:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))

    transactional.commit_transaction = late  # type: ignore[method-assign]
    house.turns(until=lambda: len(asked) == 3)
    transactional.commit_transaction = ends  # type: ignore[method-assign]
    house.send("c")
    house.turns(until=lambda: house.stands() == {0: 3})
    assert (calls, house.seen(committed=False)) == (["a", "b", "c"], ["a", "b", "c"])


def test_a_lane_does_not_join_before_its_id_is_its_own_and_can_be_stopped_until_then(house: House) -> None:
    cursor = house.lane(passing_on(house), begin=False)
    transactional, asked = house.transactional(), Counter[str]()

    def unanswered(seconds: float) -> None:
        asked["id"] += 1
        if asked["id"] == 3:
            cursor.stop()
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))

    subscribe = cursor._consumer.subscribe

    def joining(*given: Any, **named: Any) -> None:
        asked["joined"] += 1
        subscribe(*given, **named)

    cursor._consumer.subscribe = joining  # type: ignore[method-assign]
    transactional.init_transactions = unanswered  # type: ignore[method-assign, assignment]
    cursor.run()
    assert asked == {"id": 3, "joined": 1}, "it only joins to leave"


def test_an_id_that_cannot_be_had_stops_the_lane(house: House) -> None:
    cursor = house.lane(passing_on(house), begin=False)

    def refused(seconds: float) -> None:
        raise KafkaException(KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "not yours"))

    house.transactional().init_transactions = refused  # type: ignore[method-assign, assignment]
    with pytest.raises(BrokerError, match=r"lane normal: transactions under the id g\..*not yours"):
        cursor.run()


def test_after_a_transaction_of_unknown_end_none_is_begun(house: House) -> None:
    house.configure(kafka={"partition.assignment.strategy": "cooperative-sticky"})
    house.send("a")
    house.send("b", partition=1)
    cursor = house.lane(passing_on(house))
    transactional = house.transactional()
    ends = transactional.commit_transaction

    def unknown(seconds: float) -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED, "who knows", fatal=True))

    rounds = cursor._commits._rounds
    assert rounds is not None
    transactional.commit_transaction = never  # type: ignore[method-assign]
    house.turns(until=lambda: rounds._open)
    house.send("c", partition=1)
    house.turns()
    transactional.commit_transaction = unknown  # type: ignore[method-assign, assignment]
    cursor._revoked(cursor._consumer, [TopicPartition("in", 0)])
    transactional.commit_transaction = ends  # type: ignore[method-assign]
    transactional.abort_transaction()
    cursor._revoked(cursor._consumer, [TopicPartition("in", 1)])
    assert (house.stands(), house.seen()) == ({}, []), "neither the offset nor the output"
    with pytest.raises(BrokerError, match="who knows"):
        cursor.turn()


def test_a_transaction_that_ends_is_no_answer_to_a_commit_beside_it(house: House) -> None:
    cursor = house.lane(passing_on(house))
    commits = cursor._commits
    commits._unanswered["in", 0] = beside = Wait(1, 5.0)
    house.send("a")
    house.turns(until=lambda: house.stands() == {0: 1})
    assert commits._unanswered == {("in", 0): beside}
    assert beside == Wait(1, 5.0)


# Partitions that come and go


def test_a_revoke_commits_what_is_finished_before_the_partition_goes(house: House) -> None:
    house.configure(worker={"commit_every": "1h", "drain": "1s"})
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    house.send("bc")
    house.turns()
    assert house.seen() == ["a"], "nothing is due for an hour"
    cursor.close()
    assert (house.stands(), house.seen()) == ({0: 3}, ["a", "b", "c"])
    house.turns(until=lambda: house.outcomes() == {"handled": 3})


def test_what_is_put_down_after_the_partition_is_gone_is_dropped(house: House) -> None:
    house.configure(worker={"commit_every": "1h"})
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    house.send("b")
    house.turns()
    (ledger,) = [window.ledger for place, window in cursor._windows.items() if place == ("in", 0)]
    cursor._lost(cursor._consumer, [TopicPartition("in", 0)])
    assert ledger is not None
    shelf = cursor._parts.shelves["in"]
    ledger.put(Entry(2, [Output("out", "late", None, -1, 0, None)], Piece([])))
    assert (shelf.level(), ledger.take(lambda _: True)) == (0.0, [])
    assert (house.stands(), house.seen(committed=False)) == ({0: 1}, ["a"])


def never(*_given: object) -> None:
    """Stand for brokers that do not answer in time."""
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))


def test_what_is_lost_while_its_transaction_is_open_is_not_committed_and_the_rest_is(house: House) -> None:
    house.configure(kafka={"partition.assignment.strategy": "cooperative-sticky"})
    house.send("a")
    house.send("b", partition=1)
    cursor = house.lane(passing_on(house))
    transactional = house.transactional()
    sends = transactional.send_offsets_to_transaction
    transactional.send_offsets_to_transaction = never  # type: ignore[method-assign]
    rounds = cursor._commits._rounds
    assert rounds is not None
    house.turns(until=lambda: rounds._open)
    assert {share.place for share in rounds._open} == {("in", 0), ("in", 1)}
    cursor._lost(cursor._consumer, [TopicPartition("in", 0)])
    assert rounds._open == []
    transactional.send_offsets_to_transaction = sends  # type: ignore[method-assign]
    house.turns(until=lambda: house.stands() == {1: 1})
    assert house.seen() == ["b"]
    house.turns(until=lambda: house.outcomes() == {"handled": 1})


@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "commit_transaction", "abort_transaction"])
def test_close_ends_although_no_broker_answers_and_a_successor_gives_each_output_once(house: House, call: str) -> None:
    house.configure(kafka={"group.instance.id": "one"}, worker={"commit_every": "1h", "drain": "1s"})
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    house.send("b")
    house.turns()
    setattr(house.transactional(), call, never)
    if call == "abort_transaction":
        house.transactional().send_offsets_to_transaction = never  # type: ignore[method-assign]
    before = house.clock.monotonic()
    cursor.close()
    assert house.clock.monotonic() - before < 10
    house.cursors.clear()
    house.producers.clear()
    house.lane(passing_on(house))
    house.turns(until=lambda: house.stands().get(0) == 2)
    assert house.seen() == ["a", "b"]


def test_a_lane_that_is_fenced_while_it_closes_closes_all_the_same(house: House) -> None:
    house.configure(kafka={"group.instance.id": "one"}, worker={"commit_every": "1h", "drain": "1s"})
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    thief = MemoryProducer({"transactional.id": "g.one.normal"}, broker=house.broker)
    thief.init_transactions()
    house.send("b")
    house.turns()
    cursor.close()
    with pytest.raises(RuntimeError, match="Consumer closed"):
        cursor._consumer.poll(0)
    assert house.seen() == ["a"]


def test_a_consumer_that_was_put_out_commits_nothing(house: House) -> None:
    house.send("a")
    cursor = house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    house.send("b")
    rounds = cursor._commits._rounds
    assert rounds is not None
    member = cursor._consumer.consumer_group_metadata()
    rounds._nobody = member
    house.turns()
    assert (house.stands(), house.seen()) == ({0: 1}, ["a"])
    rounds._nobody = None
    house.turns(until=lambda: house.stands() == {0: 2})
    assert house.seen() == ["a", "b"]


# What cannot be delivered


def test_an_output_too_large_for_the_broker_dead_letters_its_source_and_no_other(house: House) -> None:
    house.send("axb")
    told: defaultdict[str, list[KafkaError | None]] = defaultdict(list)
    house.broker.max_message_bytes = 3000

    def handler(message: ss.Message) -> None:
        value = (message.value() or b"").decode()
        size = 5000 if value == "x" else 1
        house.producer.produce("out", value * size, on_delivery=lambda error, _: told[value].append(error))

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 3})
    assert (house.seen(), house.seen("in.dlq")) == (["a", "b"], ["x"])
    assert (told["a"], told["b"]) == ([None], [None]), "each is told once, and for good"
    (error,) = told["x"]
    assert error is not None
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert house.cursors[0]._parts.shelves["in"].level() == 0, "nothing counts as waiting any more"
    house.turns(until=lambda: house.outcomes() == {"handled": 2, "failed": 1})


def test_an_output_of_no_known_kind_dead_letters_its_source(house: House) -> None:
    house.send("axb")

    def handler(message: ss.Message) -> None:
        partition = 77 if message.value() == b"x" else -1
        house.producer.produce("out", message.value(), partition=partition)

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 3})
    assert (house.seen(), house.seen("in.dlq")) == (["a", "b"], ["x"])


def test_a_dead_letter_too_large_for_the_broker_goes_without_its_value(house: House) -> None:
    large = "x" * 2950
    house.send([large, "a"])
    house.broker.max_message_bytes = 3000

    def handler(message: ss.Message) -> None:
        house.producer.produce("out", message.value())
        if message.value() != b"a":
            raise ValueError("poison")

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 2})
    assert (house.seen(), house.seen("in.dlq")) == (["a"], [""])


def test_a_dead_letter_that_cannot_be_delivered_holds_up_its_own_partition_only(house: House) -> None:
    del house.broker.topics["in.dlq"]
    house.send("ax")
    house.send("bcd", partition=1)

    def handler(message: ss.Message) -> None:
        house.producer.produce("out", message.value())
        if message.value() == b"x":
            raise ValueError("poison")

    house.lane(handler)
    house.turns(until=lambda: house.stands().get(1) == 3)
    house.turns()
    assert house.stands().get(0, 0) < 2
    house.broker.create_topic("in.dlq", partitions=2)
    house.turns(until=lambda: house.stands() == {0: 2, 1: 3})
    assert (house.seen(), house.seen("in.dlq")) == (["a", "b", "c", "d"], ["x"])


# Bounds


def test_what_one_call_produces_has_a_bound(house: House) -> None:
    house.configure({"max_messages": 3})
    house.send("a")

    def handler(message: ss.Message) -> None:
        for number in range(4):
            house.producer.produce("out", str(number))

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 1})
    assert (house.seen(committed=False), house.seen("in.dlq")) == ([], ["a"])


def test_no_handler_begins_while_the_shelf_is_full(house: House) -> None:
    house.configure({"max_messages": 2})
    house.lane(passing_on(house))
    house.turns()
    shelf = house.cursors[0]._parts.shelves["in"]
    gate = house.crews["normal"].engine.binding.gate_of()
    two = Entry(0, [Output("out", "v", None, -1, 0, None)] * 2, Piece([]))
    shelf.change([two], 1)
    ticket = gate.enter(0.0)
    assert (ticket.verdict, ticket.by, ticket.wait_s > 0) == (Verdict.WAIT, "transaction", True)
    assert house.crews["normal"].engine.unsettled() == 2, "they count as read and not finished"
    shelf.change([two], -1)
    assert gate.enter(0.0).verdict is Verdict.ADMIT


def test_the_bound_in_bytes_fills_the_shelf_too() -> None:
    shelf = Shelf(TopicSettings("in", "in", max_messages=10, max_bytes=100))
    ledger = shelf.ledger()
    entry = Entry(0, [Output("out", "v" * 60, b"k" * 40, -1, 0, None)], Piece([]))
    ledger.put(entry)
    assert (shelf.full(), shelf.weight()) == (True, 10)
    ledger.committed(ledger.take(lambda _: True))
    assert (shelf.full(), shelf.weight()) == (False, 0)


def test_a_shelf_that_is_half_full_is_committed_before_its_time(house: House) -> None:
    house.configure({"max_messages": 10}, worker={"commit_every": "1h"})
    house.send("a")
    house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    house.send("bcde")
    house.turns()
    assert house.stands() == {0: 1}, "four of ten may wait"
    house.send("f")
    house.turns(until=lambda: house.stands() == {0: 6})


def test_a_full_shelf_lets_hands_in_when_no_commit_can_empty_it(house: House) -> None:
    house.send("a")
    house.lane(passing_on(house))
    house.turns(until=lambda: house.stands() == {0: 1})
    shelf = house.cursors[0]._parts.shelves["in"]
    full = Entry(0, [Output("out", "v", None, -1, 0, None)] * 10_000, Piece([]))
    shelf.change([full], 1)
    assert shelf.full()
    house.turns(until=lambda: not shelf.full())
    shelf.change([full], -1)
    house.turns()
    assert not shelf.stuck


# Ways that do not go together


def test_what_is_produced_after_the_handler_has_returned_is_refused(house: House) -> None:
    house.send("a")
    left: list[Callable[[], None]] = []

    def handler(message: ss.Message) -> None:
        context = copy_context()
        left.append(lambda: context.run(house.producer.produce, "out", "late"))

    house.lane(handler)
    house.turns(until=lambda: house.stands() == {0: 1})
    with pytest.raises(SetupError, match="after the handler of in has returned"):
        left[0]()
    assert house.seen(committed=False) == []


def test_what_goes_to_another_cluster_is_in_no_transaction_and_holds_its_source_back(house: House) -> None:
    house.send("a")
    path = house.folder / "elsewhere.yaml"
    path.write_text(json.dumps({"service": "s", "kafka": {"bootstrap.servers": "elsewhere", "group.id": "g"}}))
    sent: list[MemoryProducer] = []

    def client_of(_: object) -> MemoryProducer:
        sent.append(MemoryProducer({}, broker=house.broker))
        return sent[0]

    abroad = ss.Producer(ss.load(path, environ={}), client_of=client_of)  # type: ignore[arg-type]
    abroad._poll_in_background = lambda _: None  # type: ignore[method-assign, assignment]
    house.lane(lambda _: abroad.produce("out", "abroad"))
    house.turns()
    assert house.stands() == {0: 0}
    sent[0].flush()
    house.turns(until=lambda: house.stands() == {0: 1})


def test_a_transactional_topic_is_neither_settled_by_hand_nor_read_by_the_thin_consumer(house: House) -> None:
    with pytest.raises(SetupError, match="in' is transactional"):
        ss.Worker(house.settings).handles("in", settle="by_hand")
    with pytest.raises(SetupError, match="in' is transactional"):
        ss.Consumer(house.settings, ["in"])


def test_a_binding_without_transactions_is_left_as_it_is(house: House) -> None:
    house.configure({"transactional": False})
    house.send("a")
    house.lane(passing_on(house))
    binding: Binding = house.crews["normal"].engine.binding
    assert binding.shelf is None
    assert house.cursors[0]._parts.transaction is None
