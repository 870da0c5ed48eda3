"""OpenTelemetry: lane and run on every span, spans for handlers, and their context on what is produced.

::

    provider.add_span_processor(LaneSpanProcessor())

    @worker.handles("voucher.claimed")
    @traced(group="uservoucher")
    def dispatch(message):
        producer.produce("voucher.dispatched", ..., headers=trace_headers())

Names are those of the semantic conventions for messaging (Kafka), and ``user_agent.synthetic.type=test`` says that a
span is no user's. The run is on spans and logs, and never a metric's label.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Link, SpanKind

from shadowstream.lane import Lane, mark_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.util.types import AttributeValue

    from shadowstream.kafka.message import Message

__all__ = ["LaneSpanProcessor", "trace_headers", "traced"]

Handler = TypeVar("Handler", bound="Callable[..., Any]")

NAME: Final = "shadowstream"


class LaneSpanProcessor(SpanProcessor):
    """Says on each span, whoever began it, in which lane and run it was."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the signature
        """Add what is known of the work at hand."""
        mark = mark_here()
        span.set_attribute("shadowstream.lane", (Lane.NORMAL if mark is None else Lane.SHADOW).value)
        if mark is not None:
            span.set_attribute("user_agent.synthetic.type", "test")
            if mark.run is not None:
                span.set_attribute("shadowstream.run", mark.run)


def traced(*, group: str, provider: trace.TracerProvider | None = None) -> Callable[[Handler], Handler]:
    """Return a decorator that puts a span around a handler, sync or async, of one message or of a batch.

    The span of one message continues the trace that its headers name; that of a batch links to each of them.
    """
    tracer = trace.get_tracer(NAME, tracer_provider=provider)

    def around(handler: Handler) -> Handler:
        @wraps(handler)
        async def handled_later(work: Any) -> Any:
            with _span(tracer, group, work):
                return await handler(work)

        @wraps(handler)
        def handled(work: Any) -> Any:
            with _span(tracer, group, work):
                return handler(work)

        found: Any = handled_later if iscoroutinefunction(handler) else handled
        return found  # type: ignore[no-any-return] # of the handler's own shape

    return around


def trace_headers() -> list[tuple[str, str | bytes | None]]:
    """Return the headers by which whoever reads a message continues the trace at hand."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return list(carrier.items())


@contextmanager
def _span(tracer: trace.Tracer, group: str, work: Message | Sequence[Message]) -> Iterator[None]:
    one = not isinstance(work, list)
    messages: list[Message] = [work] if one else list(work)  # type: ignore[list-item, arg-type] # told apart just now
    first = messages[0]
    contexts = [_context(message) for message in messages]
    attributes = _of_batch(first, group, len(messages)) if not one else _of_message(first, group)
    links = [] if one else [Link(trace.get_current_span(each).get_span_context()) for each in contexts]
    name = f"process {first.topic()}"
    with tracer.start_as_current_span(
        name, context=contexts[0] if one else None, kind=SpanKind.CONSUMER, attributes=attributes, links=links
    ):
        yield


def _of_batch(first: Message, group: str, count: int) -> dict[str, AttributeValue]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": first.topic() or "",
        "messaging.destination.partition.id": str(first.partition()),
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": count,
    }


def _of_message(message: Message, group: str) -> dict[str, AttributeValue]:
    attributes = _of_batch(message, group, 1)
    del attributes["messaging.batch.message_count"]
    key, value = message.key(), message.value()
    if key is not None:
        attributes["messaging.kafka.message.key"] = key.decode(errors="replace")
    if value is None:
        attributes["messaging.kafka.message.tombstone"] = True
    else:
        attributes["messaging.message.body.size"] = len(value)
    return {**attributes, "messaging.kafka.offset": message.offset() or 0}


def _context(message: Message) -> Context:
    text = {name: value.decode("latin-1") for name, value in message.headers() or () if value is not None}
    return propagate.extract(text)
