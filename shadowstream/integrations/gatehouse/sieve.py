"""What goes on in front of a framework's own handlers: whose message it is, and whether it may go on now.

It is the same straight line as the worker's: read the mark, ask the gate, work in the lane, tell the gate. A message of
the other lane, a stale one and one that was set aside is none of the framework's business: it settles it as done.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from shadowstream.config.live import Watcher
from shadowstream.errors import SetupError
from shadowstream.events import Carried, Configured, Listeners, Outcome
from shadowstream.gate import Gates, OpenGate, Verdict
from shadowstream.headers import NORMAL, UNREADABLE, Kind, MarkReader
from shadowstream.kafka.engine import fate, foreign
from shadowstream.kafka.labels import REASON, copied, scribe_of
from shadowstream.kafka.message import Message, values_of
from shadowstream.kafka.outlets import side_topics
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from confluent_kafka import Message as RawMessage

    from shadowstream.config import LaneSettings, Settings, TopicSettings
    from shadowstream.events import Hook
    from shadowstream.gate import Gate, Ticket
    from shadowstream.headers import Reading
    from shadowstream.integrations.gatehouse.record import Headers, Record
    from shadowstream.lane import Mark

    Send = Callable[["Aside"], Awaitable[object]]

__all__ = ["Aside", "Passage", "Sieve", "is_text"]

LONGEST_WAIT_S: Final = 0.5
"""After how long a message that waits is looked at again, whatever the gate says: its run may be over by then."""
INTERNAL: Final = ""
"""The command of topics that belong to the framework: they have no gate."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A copy that is to be delivered before its original is settled."""

    topic: str
    record: Record
    headers: Headers
    internal: bool
    """Whether it came from a topic of the framework's own."""


class Passage:
    """One message that may go on; `ended` tells the gate how that went, once."""

    __slots__ = ("_command", "_ended", "_gate", "_listeners", "_record", "_started", "_ticket", "lane", "mark")

    def __init__(
        self, record: Record, command: str, mark: Mark | None, entered: tuple[Gate, Ticket], listeners: Listeners
    ) -> None:
        self._record, self._command, self._listeners = record, command, listeners
        self._gate, self._ticket = entered
        self._started, self._ended = time.monotonic(), False
        self.mark = mark
        """The mark to do the work under; None in the normal lane."""
        self.lane = Lane.NORMAL if mark is None else Lane.SHADOW

    def ended(self, error: BaseException | None = None) -> None:
        """Say that the message was handled, or what its handler raised; a second time changes nothing."""
        if self._ended:
            return
        self._ended = True
        now = time.monotonic()
        outcome = Outcome.HANDLED if error is None else Outcome.FAILED
        if isinstance(error, asyncio.CancelledError):
            outcome = Outcome.CANCELLED
        self._gate.leave(self._ticket, outcome, now, error)
        if self._listeners:
            fact = _carried(self._record, self.lane, self._command, outcome)
            self._listeners.on(replace(fact, seconds=(now - self._started,)))


class Sieve:
    """Lets through what is one lane's to handle, when its gate says so.

    ``send`` delivers a copy and returns when it is there. ``commands`` names topics' commands; without one a topic's
    command is its name.

    Raises:
        ConfigError: the lane is the shadow lane, and it is off.
    """

    def __init__(
        self,
        settings: Settings,
        lane: Lane,
        send: Send,
        *,
        commands: Mapping[str, str] | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        ours = settings.of(lane)
        self.lane = lane
        self._kind = Kind(lane.value)
        self._send, self._commands = send, commands or {}
        self._topics = {topic.source: topic for topic in ours.topics.values()}
        self._foreign = {name: foreign(lane, shared=topic.shared) for name, topic in self._topics.items()}
        self._listeners = Listeners(hooks)
        self._reader, self._scribe = MarkReader.of(settings.mark), scribe_of(ours, settings.mark.header)
        self._gates = Gates(ours, self._listeners)
        self._made: dict[str, Gate] = {}
        open_gate = OpenGate()
        self._open = open_gate, open_gate.enter(0.0)
        self._watcher = Watcher(settings, {lane: self._adopt}, lambda *each: self._listeners.on(Configured(*each)))
        self._gates.hear(self._watcher.lay_over)

    def start(self) -> None:
        """Follow changes of the configuration from now on."""
        self._watcher.start()

    def close(self) -> None:
        """Leave what is shared with other processes."""
        self._watcher.end()
        self._gates.close()

    def source(self, topic: str) -> str:
        """Return the Kafka topic that the lane reads, and sends to, under this name."""
        return next((each.source for each in self._topics.values() if each.name == topic), topic)

    def steps_over(self, source: str, headers: Headers | None) -> bool:
        """Tell whether `passed` would step over a message without a word: it is plainly the other lane's."""
        kinds = self._foreign.get(source)
        return self._read(headers).kind in kinds if kinds else False

    async def passed(self, record: Record, *, internal: bool = False) -> Passage | None:
        """Return a message that may go on, once it may; None when it is not the framework's to handle.

        ``internal`` topics are the framework's own, one set for each lane: nothing of the other lane may be there.

        Raises:
            SetupError: the configuration does not know the topic.
        """
        reading = self._read(record.headers())
        topic = None if internal else self._topic(record)
        if reading.kind is not self._kind:
            await self._leave(record, reading, shared=topic is not None and topic.shared)
            return None
        if topic is None:
            return Passage(record, INTERNAL, reading.mark, self._open, self._listeners)
        return await self._admitted(record, topic, reading.mark)

    def _read(self, headers: Headers | None) -> Reading:
        if not headers:
            return NORMAL
        # A name that is no text: other clients give no headers of such a message, so no lane can be told.
        if any(not is_text(name) for name, _ in headers):
            return UNREADABLE
        return self._reader.read(headers, time.time())

    async def _leave(self, record: Record, reading: Reading, *, shared: bool) -> None:
        """Step over a message, or set it aside."""
        verdict = fate(self.lane, shared, reading)
        if verdict is None:
            return
        outcome, reason = verdict
        if outcome is Outcome.QUARANTINED:
            await self._set_aside("quarantine", record, reason)
        self._tell(record, outcome, {reason: 1} if outcome is Outcome.QUARANTINED else {})

    async def _admitted(self, record: Record, topic: TopicSettings, mark: Mark | None) -> Passage | None:
        command = self._command(topic)
        message = Message(cast("RawMessage", record), mark)
        while True:
            gate = self._gate(topic, command)
            ticket = gate.enter(time.monotonic(), message)
            if ticket.admitted:
                return Passage(record, command, mark, (gate, ticket), self._listeners)
            if ticket.verdict is not Verdict.WAIT:
                await self._refuse(record, ticket.verdict)
                return None
            await asyncio.sleep(min(ticket.wait_s, LONGEST_WAIT_S))
            if mark is not None and self._reader.stale(mark, time.time()):
                self._tell(record, Outcome.EXPIRED)
                return None

    async def _refuse(self, record: Record, verdict: Verdict) -> None:
        if verdict is Verdict.PARK:
            await self._set_aside("parked", record, "refused")
        self._tell(record, Outcome.PARKED if verdict is Verdict.PARK else Outcome.SHED)

    async def _set_aside(self, kind: str, record: Record, reason: str) -> None:
        """Deliver a copy; until it is there the original is not settled."""
        topic = self._topics.get(record.source)
        name = record.source if topic is None else topic.name
        own = record.headers() if reason != UNREADABLE.reason else []
        headers = copied(cast("RawMessage", record), own, self._scribe, [(REASON, reason.encode())])
        await self._send(Aside(side_topics(name, self.lane)[kind], record, headers, internal=topic is None))

    def _gate(self, topic: TopicSettings, command: str) -> Gate:
        gate = self._made.get(topic.source)
        if gate is None:
            gate = self._gates.gate(command, Verdict(topic.on_limit), values_of)
            self._made[topic.source] = gate
        return gate

    def _command(self, topic: TopicSettings) -> str:
        return self._commands.get(topic.name, topic.name)

    def _topic(self, record: Record) -> TopicSettings:
        topic = self._topics.get(record.source)
        if topic is None:
            known = ", ".join(sorted(self._topics)) or "none"
            raise SetupError(
                f"topic {record.source!r} is read in the {self.lane} lane and not configured (configured: {known});"
                f" add it under `topics:`"
            )
        return topic

    def _adopt(self, settings: LaneSettings) -> None:
        self._gates.adopt(settings, time.monotonic())
        self._made = {}

    def _tell(self, record: Record, outcome: Outcome, reasons: Mapping[str, int] | None = None) -> None:
        if self._listeners:
            topic = self._topics.get(record.source)
            command = INTERNAL if topic is None else self._command(topic)
            self._listeners.on(replace(_carried(record, self.lane, command, outcome), reasons=reasons or {}))


def _carried(record: Record, lane: Lane, command: str, outcome: Outcome) -> Carried:
    """Return the fact of how one message ended."""
    return Carried(lane, record.source, record.place, command, {outcome: 1}, 0, {})


def is_text(name: str) -> bool:
    """Tell whether a header's name was UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
