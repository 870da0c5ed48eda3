"""Workers that join and leave, handlers that never return, topics that are full: what happens to partitions."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from shadowstream.errors import BrokerError
from shadowstream.events import CommitFailed
from shadowstream.lane import Lane
from tests.broker.rig import DEADLINE_S, MARKED, eventually, text_of
from tests.broker.wire import throw_out

if TYPE_CHECKING:
    from collections.abc import Callable

    import shadowstream as ss
    from shadowstream.kafka.cursor import Cursor
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "kip-848": {"group.protocol": "consumer", "session.timeout.ms": None, "heartbeat.interval.ms": None},
}
by_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
# Members of a KIP-848 group hear of changes with a heartbeat, every five seconds: once is enough.
by_classic_protocol = pytest.mark.parametrize("protocol", ["eager", "cooperative"])


class Commits:
    """Watches where groups stand, and whether any ever steps back."""

    def __init__(self, rig: Rig, topic: str) -> None:
        self._rig, self._topic = rig, topic
        self._seen: defaultdict[tuple[Lane, int], list[int]] = defaultdict(list)

    def look(self) -> None:
        """Take note of where both groups stand now."""
        for lane in Lane:
            for partition, offset in self._rig.committed(self._rig.group_of(lane), self._topic).items():
                self._seen[lane, partition].append(offset)

    def regressions(self) -> list[tuple[Lane, int, list[int]]]:
        """Return what stepped back."""
        return [(*place, seen) for place, seen in self._seen.items() if seen != sorted(seen)]

    def when(
        self, condition: Callable[[], object], meanwhile: Callable[[], object] = lambda: None
    ) -> Callable[[], object]:
        """Look, and do something meanwhile, each time a condition is looked at."""

        def looked() -> object:
            self.look()
            meanwhile()
            return condition()

        return looked


@by_protocol
def test_workers_that_join_and_leave_lose_nothing_repeat_nothing_and_no_commit_steps_back(
    rig: Rig, protocol: str
) -> None:
    topic = rig.topic(partitions=4)
    rig.begin(topic)
    settings = rig.settings({topic: {"concurrency": 2}}, kafka=PROTOCOLS[protocol])
    handled: list[tuple[str, int, int, str]] = []
    commits = Commits(rig, topic)

    def worker(name: str) -> ss.Worker:
        made = rig.worker(settings)

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            time.sleep(0.002)
            handled.append((message.lane, message.partition() or 0, message.offset() or 0, name))

        return made

    def handled_by(name: str) -> bool:
        return {lane for lane, _, _, by in handled if by == name} == {"normal", "shadow"}

    sent = 0

    def more() -> None:
        nonlocal sent
        for number in range(16):
            given: Any = [*MARKED] if number % 2 else None
            rig.producer.produce(topic, str(number), headers=given, partition=number // 2 % 4)
        assert rig.producer.flush(30) == 0
        sent += 16

    more()
    with worker("first"):
        eventually(commits.when(lambda: handled_by("first")), "the first at work")
        with worker("second"):
            eventually(commits.when(lambda: handled_by("second"), more), "the second at work")
        more()
        with worker("third"):
            eventually(commits.when(lambda: handled_by("third"), more), "the third at work")
        more()
        eventually(commits.when(lambda: rig.both_caught_up(topic)), "both lanes at the end")

    places = Counter(entry[:3] for entry in handled)
    assert len(places) == sent
    assert [place for place, times in places.items() if times > 1] == []
    assert commits.regressions() == []
    for lane in Lane:
        assert rig.heard.outcomes(lane) == {"handled": sent // 2}


@by_classic_protocol
def test_a_message_whose_handler_outlives_the_revoke_goes_to_the_new_owner_and_its_late_end_changes_nothing(
    rig: Rig, protocol: str
) -> None:
    topic = rig.topic(partitions=2)
    rig.begin(topic)
    settings = rig.settings(
        {topic: {"concurrency": 2, "order": "partition"}},
        kafka=PROTOCOLS[protocol],
        worker={"revoke": "200ms", "drain": "2s"},
    )
    commits = Commits(rig, topic)
    released, stuck = threading.Event(), threading.Event()
    handled: dict[str, list[tuple[int, int]]] = {"old": [], "new": []}

    def worker(name: str) -> ss.Worker:
        made = rig.worker(settings, "normal")

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            if name == "old" and not released.is_set():
                stuck.set()
                released.wait()
            handled[name].append((message.partition() or 0, message.offset() or 0))

        return made

    for partition in (0, 1):
        rig.send(topic, range(20), partition=partition)
    with worker("old"):
        eventually(stuck.is_set, "the old owner's handlers stuck")
        with worker("new"):
            eventually(commits.when(lambda: len(handled["new"]) == 20), "one partition handled by its new owner")
            (moved,) = {partition for partition, _ in handled["new"]}
            eventually(commits.when(lambda: rig.committed(rig.group, topic)[moved] == 20), "and committed")
            released.set()
            eventually(commits.when(lambda: rig.caught_up(Lane.NORMAL, topic)), "the other one by the old owner")
        rig.send(topic, ["later"], partition=moved)
        eventually(commits.when(lambda: (moved, 20) in handled["old"]), "the moved partition back with the old owner")
        eventually(commits.when(lambda: rig.caught_up(Lane.NORMAL, topic)), "everything committed")

    assert handled["new"] == [(moved, offset) for offset in range(20)]
    assert commits.regressions() == []
    # The old owner finishes the one message that it had begun, and nothing else of what had moved.
    assert [place for place in handled["old"] if place[0] == moved] == [(moved, 0), (moved, 20)]
    # What it kept was its own all along, except that an eager rebalance takes everything away and gives it back.
    stayed = [offset for partition, offset in handled["old"] if partition != moved]
    assert stayed == [*([0] if protocol == "eager" else []), *range(20)]


def test_partitions_that_are_lost_are_given_up_without_a_commit_and_read_again(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, range(5))
    worker = rig.worker(rig.settings({topic: {}}, worker={"commit_every": "1h"}), "normal")
    stuck, released = threading.Event(), threading.Event()
    handled: list[int] = []

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        number = int(text_of(message))
        if number == 10:
            stuck.set()
            released.wait()
        handled.append(number)

    def changes() -> list[str]:
        return [each.change for each in rig.heard.rebalances(Lane.NORMAL)]

    with worker:
        # Only the first round of all may have committed, so at least five that are handled are not.
        eventually(lambda: len(handled) == 5, "the first five handled")
        rig.send(topic, range(5, 20))
        eventually(stuck.is_set, "five more handled, the next one stuck")
        before = rig.committed(rig.group, topic)[0]
        (member,) = rig.members(rig.group)
        throw_out(rig.bootstrap, rig.group, member)
        eventually(lambda: changes() == ["assigned", "lost", "assigned"], "the partition lost and given again")
        after = rig.committed(rig.group, topic)[0]
        released.set()
        eventually(lambda: handled[-1] == 19, "everything handled from the last commit on")

    assert before == after <= 5
    assert not [event for event in rig.heard.events if isinstance(event, CommitFailed)], "not even tried"
    assert handled == [*range(11), *range(before, 20)]
    assert rig.committed(rig.group, topic) == {0: 20}


@by_protocol
def test_a_lane_ends_when_its_static_member_is_replaced(rig: Rig, protocol: str) -> None:
    topic = rig.topic()
    rig.begin(topic)
    place = {**PROTOCOLS[protocol], "group.instance.id": "one"}
    settings = rig.settings({topic: {}}, kafka=place)
    first, second = _alone(rig, topic, settings), _alone(rig, topic, settings)
    first.start()
    eventually(lambda: rig.heard.assigned(Lane.NORMAL), "the first one at its place")
    second.start()
    # A classic group gives the place to whoever comes last, a KIP-848 group keeps it for whoever has it.
    ended, stays = (second, first) if protocol == "kip-848" else (first, second)
    eventually(lambda: ended.error, "one of them gone")
    rig.send(topic, ["n0"])
    eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the message handled by the one that stays")
    stays.cursor.stop()
    stays.join(DEADLINE_S)

    assert isinstance(ended.error, BrokerError)
    assert "`group.instance.id`" in str(ended.error)
    assert stays.error is None


class _Alone(threading.Thread):
    """A lane in a thread that keeps what ended it."""

    def __init__(self, cursor: Cursor) -> None:
        super().__init__(daemon=True)
        self.cursor = cursor
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.cursor.run()
        except BrokerError as error:
            self.error = error


def _alone(rig: Rig, topic: str, settings: ss.Settings) -> _Alone:
    worker = rig.worker(settings, "normal")
    worker.handles(topic)(lambda _: None)
    return _Alone(worker._assembled(Lane.NORMAL)[0])


def test_close_ends_although_a_handler_never_returns(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0", "n1"])
    rig.send(topic, ["s0"], MARKED)
    worker = rig.worker(rig.settings({topic: {}}, worker={"drain": "200ms"}))
    begun, released = Counter[str](), threading.Event()

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        begun[text_of(message)] += 1
        released.wait()

    worker.start()
    eventually(lambda: set(begun) == {"n0", "s0"}, "a handler stuck in each lane")
    stopping = threading.Thread(target=worker.stop, daemon=True)
    stopping.start()
    stopping.join(DEADLINE_S)

    assert not stopping.is_alive()
    assert [rig.members(rig.group_of(lane)) for lane in Lane] == [[], []]
    released.set()
    assert [rig.committed(rig.group_of(lane), topic) for lane in Lane] == [{0: 0}, {0: 2}]


def test_a_stuck_topic_is_paused_and_polling_goes_on(rig: Rig) -> None:
    stuck, beside = rig.topics("stuck", "beside")
    rig.begin(stuck, beside)
    settings = rig.settings(
        {stuck: {"max_messages": 20}, beside: {}}, kafka={"max.poll.interval.ms": 6000}, worker={"batch": 10}
    )
    worker = rig.worker(settings, "normal")
    released = threading.Event()
    handled: list[str] = []
    worker.handles(beside)(lambda message: handled.append(text_of(message)))

    @worker.handles(stuck)
    def handler(message: ss.Message) -> None:
        released.wait()
        handled.append(f"stuck {text_of(message)}")

    rig.send(stuck, range(500))
    with worker:
        cursor, _ = worker._running[Lane.NORMAL]
        eventually(lambda: cursor._paused == {stuck}, "the stuck topic paused")
        members, paused_at = rig.members(rig.group), time.monotonic()

        def longer_than_a_member_may_go_without_a_poll() -> bool:
            rig.send(beside, ["beside"])
            return time.monotonic() > paused_at + 7

        eventually(longer_than_a_member_may_go_without_a_poll, "the poll interval to pass")
        eventually(lambda: rig.caught_up(Lane.NORMAL, beside), "the other topic handled meanwhile")
        assert rig.members(rig.group) == members
        assert [change.change for change in rig.heard.rebalances(Lane.NORMAL)] == ["assigned"]
        assert cursor._paused == {stuck}
        assert cursor._parts.crews[stuck].waiting() <= 30, "what is read and not finished has a bound"

        released.set()
        eventually(lambda: rig.caught_up(Lane.NORMAL, stuck), "the stuck topic at the end as well")

    assert [each for each in handled if each.startswith("stuck")] == [f"stuck {number}" for number in range(500)]
    assert cursor._paused == set()


@by_classic_protocol
def test_a_topic_that_was_paused_at_a_rebalance_goes_on_afterwards(rig: Rig, protocol: str) -> None:
    topic = rig.topic(partitions=2)
    rig.begin(topic)
    settings = rig.settings(
        {topic: {"max_messages": 20, "concurrency": 2}},
        kafka=PROTOCOLS[protocol],
        worker={"batch": 10, "revoke": "100ms"},
    )
    released = threading.Event()
    handled: Counter[str] = Counter()

    def worker() -> ss.Worker:
        made = rig.worker(settings, "normal")

        @made.handles(topic)
        def handler(message: ss.Message) -> None:
            released.wait()
            handled[text_of(message)] += 1

        return made

    rig.send(topic, range(400), partition=0)
    rig.send(topic, range(400, 800), partition=1)
    with worker() as first:
        cursor, _ = first._running[Lane.NORMAL]
        eventually(lambda: cursor._paused == {topic}, "the topic paused")
        with worker() as second:
            beside, _ = second._running[Lane.NORMAL]
            eventually(lambda: beside._paused == {topic}, "the topic paused at the second one too")
            released.set()
            eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "everything handled")
        # What the second one leaves was paused once, when the first one lost it.
        for partition in (0, 1):
            rig.send(topic, [800 + partition], partition=partition)
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "the first one reads both partitions again")

    assert set(handled) == {str(number) for number in range(802)}
    assert handled.total() <= 802 + 2, "no more than one running handler for each partition was repeated"
