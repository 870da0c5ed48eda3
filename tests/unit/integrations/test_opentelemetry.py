"""Spans in the words of the messaging conventions, with lane and run on each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import shadowstream as ss
from shadowstream.integrations.gatehouse.record import Record
from shadowstream.integrations.opentelemetry import LaneSpanProcessor, trace_headers, traced
from shadowstream.kafka import Message
from shadowstream.metrics import PrometheusHook

MARK = ss.Mark(run="fcst-1111")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(LaneSpanProcessor())
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def message(offset: int = 41, value: bytes | None = b"value", headers: Any = ()) -> Message:
    raw: Any = Record("voucher.claimed", 3, offset, b"k", value, [*headers])
    return Message(raw)


def test_every_span_of_shadow_work_says_so_whoever_began_it(provider, exporter) -> None:
    tracer = provider.get_tracer("somebody's own")
    with tracer.start_as_current_span("normal"):
        pass
    with ss.entered(MARK), tracer.start_as_current_span("shadow"), tracer.start_as_current_span("query"):
        pass
    normal, query, shadow = exporter.get_finished_spans()
    assert dict(normal.attributes) == {"shadowstream.lane": "normal"}
    expected = {
        "shadowstream.lane": "shadow",
        "shadowstream.run": "fcst-1111",
        "user_agent.synthetic.type": "test",
    }
    assert dict(query.attributes) == dict(shadow.attributes) == expected


def test_a_handlers_span_continues_the_trace_of_its_message(provider, exporter) -> None:
    tracer, seen = provider.get_tracer("producer"), []

    @traced(group="g", provider=provider)
    def handle(given: Message) -> str:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        return "done"

    with tracer.start_as_current_span("send") as sent:
        headers = [(name, str(value).encode()) for name, value in trace_headers()]
    with ss.entered(MARK):
        assert handle(message(headers=[*headers, ("empty", None)])) == "done"
    span = exporter.get_finished_spans()[-1]
    assert seen == [sent.get_span_context().trace_id]
    assert span.parent.span_id == sent.get_span_context().span_id
    assert (span.name, span.kind) == ("process voucher.claimed", trace.SpanKind.CONSUMER)
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "voucher.claimed",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "g",
        "messaging.kafka.message.key": "k",
        "messaging.message.body.size": 5,
        "messaging.kafka.offset": 41,
        "shadowstream.lane": "shadow",
        "shadowstream.run": "fcst-1111",
        "user_agent.synthetic.type": "test",
    }


def test_an_async_handler_has_a_span_and_its_error_is_on_it(provider, exporter) -> None:
    @traced(group="g", provider=provider)
    async def handle(given: Message) -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        asyncio.run(handle(message(value=None)))
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["messaging.kafka.message.tombstone"] is True
    assert handle.__name__ == "handle"


def test_a_batch_links_to_the_traces_of_its_messages(provider, exporter) -> None:
    tracer, contexts = provider.get_tracer("producer"), []

    @traced(group="g", provider=provider)
    def handle(given: list[Message]) -> None:
        pass

    batch = []
    for number in range(3):
        with tracer.start_as_current_span("send") as span:
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            contexts.append(span.get_span_context().span_id)
        batch.append(message(number, headers=[(name, value.encode()) for name, value in carrier.items()]))
    handle(batch)
    span = exporter.get_finished_spans()[-1]
    assert [link.context.span_id for link in span.links] == contexts
    assert span.attributes["messaging.batch.message_count"] == 3
    assert span.parent is None


def test_the_run_is_no_label_of_any_metric() -> None:
    # `test_the_run_is_never_a_label` asks the hook; here it is that no table has a column for it.
    assert not any("run" in table._labels for table in PrometheusHook()._tables)
