"""Which part of a lane's limits is this process's, where partitions say so: as many as it reads, of all there are.

Keys lie in partitions, and each partition is read by one process at a time. So without any place to share through, the
parts of all processes add up to the whole, and a topic that is partitioned by what is limited is limited exactly. Trap:

* Whoever gives partitions up may notice a moment later than whoever gets them. So less is gone by at once, and more
  after a while (``test_less_is_gone_by_at_once_and_more_only_after_the_others_have_noticed``).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from shadowstream.config.beside import Beside
from shadowstream.kafka.clients import logger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Producer as RawProducer

    Place = tuple[str, int]
    Tell = Callable[[Mapping[str, float], float], None]

__all__ = ["Portions", "totals_of"]

log = logger_of("portions")

LOOK_S: Final = 0.5
LATER_S: Final = 2.0
"""After how long more is gone by: the others look twice a second, and a rebalance takes a moment."""
TOTALS_S: Final = 60.0
"""How often it is asked how many partitions there are."""
ANSWER_S: Final = 5.0


class Portions(Beside):
    """Tells a lane's gates the part of each command's limit that is theirs.

    ``topics`` are the Kafka topics of each command, ``places`` the partitions that are read here by now, ``totals``
    asks how many partitions topics have.
    """

    def __init__(
        self,
        topics: Mapping[str, Iterable[str]],
        places: Callable[[], Iterable[Place]],
        totals: Callable[[], Mapping[str, int]],
        tell: Tell,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("portions")
        self._topics = {command: frozenset(of) for command, of in topics.items()}
        self._places, self._ask, self._tell, self._now = places, totals, tell, now
        self._totals: Mapping[str, int] = {}
        self._totals_at = float("-inf")
        self._gone_by: dict[str, float] = dict.fromkeys(self._topics, 0.0)
        self._more: dict[str, tuple[float, float]] = {}
        """Parts that are larger than what is gone by, and since when they are seen."""

    def look(self) -> None:
        """Look once, and tell what is to be gone by from now on, if that is something else."""
        now = self._now()
        mine = Counter(topic for topic, _ in self._places())
        totals = self._known(now, mine)
        before = dict(self._gone_by)
        for command, topics in self._topics.items():
            there = sum(totals.get(topic, 0) for topic in topics)
            part = min(sum(mine[topic] for topic in topics) / there, 1.0) if there else 0.0
            self._gone_by[command] = self._settled(command, part, now)
        if self._gone_by != before:
            self._tell(dict(self._gone_by), now)

    def _settled(self, command: str, part: float, now: float) -> float:
        if part <= self._gone_by[command]:
            self._more.pop(command, None)
            return part
        seen, since = self._more.get(command, (part, now))
        # Of what was seen first and what is now, the smaller part was there for as long.
        part = min(seen, part)
        if now - since < LATER_S:
            self._more[command] = part, since
            return self._gone_by[command]
        self._more.pop(command, None)
        return part

    def _known(self, now: float, mine: Mapping[str, int]) -> Mapping[str, int]:
        """Return how many partitions each topic has, as last said; asked anew when it cannot be true any more."""
        wrong = any(count > self._totals.get(topic, 0) for topic, count in mine.items())
        if wrong or now - self._totals_at >= TOTALS_S:
            try:
                self._totals, self._totals_at = self._ask(), now
            except KafkaException as error:
                log.warning("partitions_unknown error=%s: the parts of limits stay what they are", error)
        return self._totals

    def _go_on(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()


def totals_of(client: RawProducer) -> Callable[[], Mapping[str, int]]:
    """Return what asks how many partitions there are; with a client that nobody else uses, for it may wait."""

    def ask() -> Mapping[str, int]:
        return {name: len(each.partitions) for name, each in client.list_topics(timeout=ANSWER_S).topics.items()}

    return ask
