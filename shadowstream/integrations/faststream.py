"""FastStream (its Kafka broker): a middleware, in a process for each lane.

::

    lane = FastStreamLane(settings)                        # SHADOWSTREAM_LANE says which one; normal without it
    broker = KafkaBroker(lane.servers, middlewares=[lane.middleware])

    @broker.subscriber(lane.topic("voucher.claimed"), group_id=lane.group)
    async def dispatch(voucher): ...

Traps:

* FastStream publishes what a handler returns after its ``consume_scope`` is over: the lane is entered for the whole
  message (``test_what_a_handler_returns_is_published_in_its_lane``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from faststream import BaseMiddleware
from faststream.exceptions import AckMessage

from shadowstream.errors import SetupError
from shadowstream.headers import MarkWriter
from shadowstream.integrations.gatehouse.clients import delivered, record_of, send
from shadowstream.integrations.gatehouse.lenient import tolerate_header_names
from shadowstream.integrations.gatehouse.process import lane_of_process
from shadowstream.integrations.gatehouse.sieve import Sieve
from shadowstream.integrations.gatehouse.stamp import stamped
from shadowstream.lane import entered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.integrations.gatehouse.sieve import Aside, Passage
    from shadowstream.lane import Lane

__all__ = ["FastStreamLane"]


class FastStreamLane:
    """What a FastStream app needs to know of its lane.

    Raises:
        ConfigError: the lane is the shadow lane, and it is off.
        ValueError: there is no such lane.
    """

    def __init__(
        self,
        settings: Settings,
        lane: Lane | str | None = None,
        *,
        commands: Mapping[str, str] | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.lane = lane_of_process(lane)
        ours = settings.of(self.lane)
        tolerate_header_names()
        self.servers = str(ours.kafka["bootstrap.servers"])
        """Where the brokers are."""
        self.group = str(ours.kafka["group.id"])
        """The group that the lane reads in."""
        self.sieve = Sieve(settings, self.lane, self._deliver, commands=commands, hooks=hooks)
        self.writer = MarkWriter.of(settings.mark)
        self.middleware = partial(_LaneMiddleware, self)
        """The middleware for the broker."""
        self._producer: AIOKafkaProducer | None = None

    def topic(self, name: str) -> str:
        """Return the Kafka topic that the lane reads under this name."""
        return self.sieve.source(name)

    async def close(self) -> None:
        """Leave what is shared with other processes; FastStream's ``after_shutdown`` is the place for it."""
        self.sieve.close()
        if self._producer is not None:
            await self._producer.stop()

    async def _deliver(self, aside: Aside) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self.servers)
            await self._producer.start()
        await delivered(aside, partial(send, self._producer))


class _LaneMiddleware(BaseMiddleware[Any, Any]):
    """What goes on around one message, or around one that is published."""

    __slots__ = ("_entered", "_lane", "_passage")

    def __init__(self, lane: FastStreamLane, msg: Any, /, *, context: Any) -> None:
        super().__init__(msg, context=context)
        self._lane = lane
        self._passage: Passage | None = None
        self._entered: entered | None = None

    async def on_receive(self) -> None:
        if isinstance(self.msg, tuple | list):
            raise SetupError(
                "a batch mixes messages of several runs, which are in no one lane; leave `batch=True` out, or use"
                " shadowstream.Worker with `batch=`"
            )
        self._lane.sieve.start()
        self._passage = await self._lane.sieve.passed(record_of(self.msg))
        if self._passage is None:
            raise AckMessage
        self._entered = entered(self._passage.mark)
        self._entered.__enter__()

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        if self._passage is not None:
            self._passage.ended(exc_val)
        if self._entered is not None:
            self._entered.__exit__(exc_type, exc_val, exc_tb)
        return False

    async def publish_scope(self, call_next: Any, cmd: Any) -> Any:
        headers: Any = stamped(self._lane.writer, (cmd.headers or {}).items())
        # FastStream's headers are text.
        cmd.headers = {name: each.decode() if isinstance(each, bytes) else each for name, each in headers or ()}
        return await call_next(cmd)
