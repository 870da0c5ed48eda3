"""The guard through a real worker: shadow stands still while normal suffers, comes back after it, and loses nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import shadowstream as ss
from shadowstream.events import Guarding
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, Rig, eventually, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

pytest_plugins = ["tests.broker.rig"]


class Load:
    """Normal messages without end, until the block is left."""

    def __init__(self, rig: Rig, topic: str) -> None:
        self._rig, self._topic = rig, topic
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            self._rig.send(self._topic, [f"n{self.sent}"])
            self.sent += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def levels(rig: Rig) -> Iterator[Guarding]:
    return (each for each in reversed(list(rig.heard.events)) if isinstance(each, Guarding))


def level(rig: Rig) -> float:
    return next((each.level for each in levels(rig)), 1.0)


def test_shadow_stands_still_while_normal_is_slow_and_goes_on_after_it(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    settings = rig.settings({topic: {"concurrency": 8, "order": "none"}}, guard={"p99": "100ms"})
    worker = rig.worker(settings)
    handled: dict[Lane, list[str]] = {lane: [] for lane in Lane}
    slow_s = [0.0]

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        if not ss.is_shadow():
            time.sleep(slow_s[0])
        handled[message.lane].append(text_of(message))

    with worker, Load(rig, topic) as load:
        rig.send(topic, ["s1"], MARKED)
        eventually(lambda: handled[Lane.SHADOW] == ["s1"], "normal is calm")
        slow_s[0] = 0.15
        eventually(lambda: level(rig) == 0.0, "normal suffers")
        rig.send(topic, ["s2"], MARKED)
        before = len(handled[Lane.NORMAL])
        eventually(lambda: len(handled[Lane.NORMAL]) > before + 20, "normal goes on")
        assert handled[Lane.SHADOW] == ["s1"]
        slow_s[0] = 0.0
        eventually(lambda: handled[Lane.SHADOW] == ["s1", "s2"], "normal is calm again")
    eventually(lambda: len(set(handled[Lane.NORMAL])) <= load.sent, "all that was sent")
    assert next(each for each in levels(rig) if each.why).why == "p99"


def test_of_a_joint_limit_shadow_gets_what_normal_leaves(rig: Rig) -> None:
    topic, waiting = rig.topic(), 200
    rig.begin(topic)
    settings = rig.settings({topic: {"concurrency": 8, "order": "none"}}, rate_limit={topic: {"joint": "50/s"}})
    worker = rig.worker(settings)
    seen = Counter[Lane]()
    alone = [0]
    """Normal messages since the last shadow one."""

    @worker.handles(topic)
    def handler(message: ss.Message) -> None:
        seen[message.lane] += 1
        alone[0] = 0 if ss.is_shadow() else alone[0] + 1

    with worker:
        with Load(rig, topic) as load:
            eventually(lambda: seen[Lane.NORMAL] > 0, "normal begins")
            rig.send(topic, range(waiting), MARKED)
            eventually(lambda: alone[0] >= 200, "normal takes all of it")
            assert seen[Lane.SHADOW] < waiting
        eventually(lambda: seen[Lane.SHADOW] == waiting, "normal leaves it")
        eventually(lambda: seen[Lane.NORMAL] == load.sent, "normal was never refused")
