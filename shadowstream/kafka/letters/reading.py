"""From the oldest letter to the newest at the start: a reader that joins no group and always ends.

Traps:

* An open transaction or its markers stand where no message ever comes: the end is where the broker says that it is
  (``test_reading_ends_though_markers_of_transactions_stand_at_the_end``).
* The group that keeps the progress has no members. A topic that was made anew has smaller offsets than the group
  remembers: then nothing is remembered (``test_progress_in_a_topic_that_was_made_anew_is_forgotten``).
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shadowstream.errors import BrokerError
from shadowstream.headers import MarkReader
from shadowstream.kafka.clients import consumer_of, explained
from shadowstream.kafka.letters.box import partitions_of, standing
from shadowstream.kafka.letters.letter import letter_of
from shadowstream.kafka.letters.progress import Progress
from shadowstream.kafka.offsets import offset_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shadowstream.config import Settings
    from shadowstream.headers import Reading
    from shadowstream.kafka.letters.box import Box
    from shadowstream.kafka.letters.letter import Letter

__all__ = ["BoxReader", "Found", "Span", "browse"]

POLL_S = 0.1
ANSWER_S = 10.0
STALL_S = 30.0
AGAIN_S = 0.1
COORDINATING: Final = frozenset((
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR,
    KafkaError._WAIT_COORD, KafkaError._TIMED_OUT,  # noqa: SLF001 - the client names its own errors so
))  # fmt: skip
"""What a coordinator says that is just being made; a moment later it answers."""


@dataclass(slots=True)
class Span:
    """What is to be read of one partition, and what is answered for there."""

    partition: int
    start: int
    end: int
    """The offset after the last letter when the reading began."""
    progress: Progress


@dataclass(frozen=True, slots=True)
class Found:
    """One letter as somebody finds it who only looks."""

    letter: Letter
    mark: Reading
    answered: bool
    """Whether an earlier replay has answered for it."""


class BoxReader:
    """Reads one box, partition by partition, and keeps its group's progress.

    Raises:
        BrokerError: the side topic does not exist, or no broker answers.
        SetupError: the client refuses a property of the lane.
    """

    def __init__(self, settings: Settings, box: Box) -> None:
        self.box = box
        self._mark_name = settings.mark.header
        # Whatever way the service joins its group, this one is not joined: no member id may go with a commit.
        alone: dict[str, Any] = {"group.id": box.group, "group.protocol": "classic", "group.instance.id": None}
        ours = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        self._consumer = consumer_of(settings.of(box.lane), **alone, **ours)
        self._noted: dict[int, tuple[int, str]] = {}
        try:
            self.partitions = standing(self._consumer, [box])[box]
        except BrokerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def topics(self) -> dict[str, list[int]]:
        """Return every topic of the cluster with its partitions."""
        return partitions_of(self._consumer)

    def spans(self, *, again: bool = False, since_ms: int | None = None) -> list[Span]:
        """Return what there is to read: what is not answered for, or with ``again`` everything.

        ``since_ms`` leaves out what comes before the first letter of that time (milliseconds since the epoch).
        """
        spans = [self._span(stands, again=again) for stands in self._committed()]
        if since_ms is not None:
            wanted = [TopicPartition(self.box.place, span.partition, since_ms) for span in spans]
            first = self._asked(lambda: self._consumer.offsets_for_times(wanted, timeout=ANSWER_S))
            for span, place in zip(spans, first, strict=True):
                span.start = max(span.start, place.offset) if place.offset >= 0 else span.end
        return [span for span in spans if span.start < span.end]

    def read(self, span: Span) -> Iterator[Letter]:
        """Give the letters of one partition in their order, and move ``span.start`` behind what has been seen.

        Raises:
            BrokerError: the brokers do not give what they have.
        """
        self._consumer.assign([TopicPartition(self.box.place, span.partition, span.start)])
        until = time.monotonic() + STALL_S
        while span.start < span.end:
            raw = self._consumer.poll(POLL_S)
            if raw is None:
                self._patient(span, until)
                continue
            if (error := raw.error()) is not None:
                self._ended(error, span)
                # Before the end that was asked for only where a transaction is open: what is in it comes next time.
                span.start = min(offset_of(raw), span.end)
                return
            letter = letter_of(raw, self.box, self._mark_name, span.start)
            if letter.offset >= span.end:
                break
            span.start = letter.offset + 1
            yield letter
            until = time.monotonic() + STALL_S
        span.start = span.end

    def commit(self, span: Span) -> None:
        """Keep what is answered for in one partition.

        Raises:
            BrokerError: the group does not take it.
        """
        first, note = noted = span.progress.first, span.progress.note()
        if self._noted.get(span.partition) == noted:
            return
        place = TopicPartition(self.box.place, span.partition, first, note)
        self._asked(lambda: self._consumer.commit(offsets=[place], asynchronous=False))
        self._noted[span.partition] = noted

    def _span(self, stands: TopicPartition, *, again: bool) -> Span:
        place = TopicPartition(self.box.place, stands.partition)
        low, high = self._asked(lambda: self._watermarks(place))
        known = 0 <= stands.offset <= high
        progress = Progress.from_note(stands.offset, stands.metadata) if known else Progress()
        # What the broker has deleted is nobody's to answer for any more.
        progress.passed(0, low)
        if known:
            self._noted[stands.partition] = stands.offset, stands.metadata or ""
        return Span(stands.partition, low if again else max(low, progress.first), high, progress)

    def _watermarks(self, place: TopicPartition) -> tuple[int, int]:
        found = self._consumer.get_watermark_offsets(place, timeout=ANSWER_S, cached=False)
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - the client names it so
        return found

    def _committed(self) -> list[TopicPartition]:
        places = [TopicPartition(self.box.place, partition) for partition in self.partitions]
        stands: list[TopicPartition] = self._asked(lambda: self._consumer.committed(places, timeout=ANSWER_S))
        return stands

    def _asked(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - each question has an answer of its own
        """Ask the cluster, for a while again where its coordinator is not there yet."""
        until = time.monotonic() + ANSWER_S
        while (error := (asked := _answer(ask))[1]) is not None:
            if error.code() not in COORDINATING or time.monotonic() > until:
                raise BrokerError(f"{self.box.place} with group {self.box.group}: {explained(error)}")
            time.sleep(AGAIN_S)
        return asked[0]

    def _patient(self, span: Span, until: float) -> None:
        if time.monotonic() > until:
            raise BrokerError(
                f"{self.box.place}[{span.partition}]: nothing came for {STALL_S:g} s at offset {span.start}, before the"
                f" end at {span.end}; check that the partition's leader runs, and begin again"
            )

    def _ended(self, error: KafkaError, span: Span) -> None:
        """Take the end that the broker tells; anything else is not ours to survive."""
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client names it so
            raise BrokerError(f"{self.box.place}[{span.partition}] cannot be read: {explained(error)}")


def _answer(ask: Callable[[], Any]) -> tuple[Any, KafkaError | None]:
    """Return the cluster's answer and what is wrong with it; some errors are raised, some lie in the answer."""
    try:
        answer = ask()
    except KafkaException as error:
        return None, error.args[0]
    places = answer if isinstance(answer, list) else []
    return answer, next((each.error for each in places if each.error is not None), None)


def browse(settings: Settings, boxes: Sequence[Box], since_ms: int | None = None) -> Iterator[Found]:
    """Give every letter of these boxes that is there now, from the oldest on; boxes that do not exist are passed over.

    Raises:
        BrokerError: none of the boxes exists, or the brokers fail us.
    """
    with closing(consumer_of(settings.of(boxes[0].lane), **{"group.id": boxes[0].group})) as onlooker:
        there = list(standing(onlooker, boxes))
    marks = MarkReader.of(settings.mark)
    for box in there:
        with closing(BoxReader(settings, box)) as reader:
            for span in reader.spans(again=True, since_ms=since_ms):
                for letter in reader.read(span):
                    mark = letter.mark(marks, time.time())
                    yield Found(letter, mark, span.progress.knows(letter.offset))
