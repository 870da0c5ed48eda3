"""A chain with one deaf hop, on a broker inside this process: what a map looks like that finds something."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import Producer as RawProducer

from shadowstream.config import load
from shadowstream.fcst.embedded import EmbeddedBroker
from shadowstream.fcst.trace.chain import Chain
from shadowstream.kafka import Producer, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config import Settings
    from shadowstream.kafka import Message

__all__ = ["deaf_chain"]

CHAIN = Chain.parsed("voucher.claimed > voucher.dispatched > voucher.used > voucher.settled")
DEAF = ("voucher.dispatched", "voucher.used")
"""The hop whose service copies values and forgets headers, as a service does that was overlooked."""
POLL_S = 0.05


@contextmanager
def deaf_chain() -> Iterator[tuple[Settings, Chain]]:
    """Run it inside the block; gives the settings of its services, and the chain."""
    with EmbeddedBroker() as broker, TemporaryDirectory() as folder:
        settings = _settings(broker, Path(folder))
        _make_topics(broker)
        worker, producer = Worker(settings), Producer(settings)
        for source, step in zip(CHAIN.before, list(CHAIN.before)[1:], strict=False):
            if (source, step) != DEAF:
                _let_carry(worker, producer, source, step)
        with worker, _forgetting(broker.bootstrap):
            yield settings, CHAIN


def _let_carry(worker: Worker, producer: Producer, source: str, step: str) -> None:
    @worker.handles(source)
    def carry(message: Message) -> None:
        producer.produce(step, message.value(), key=message.key())


@contextmanager
def _forgetting(bootstrap: str) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=_forget, args=[bootstrap, ended], name="deaf-hop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _forget(bootstrap: str, ended: threading.Event) -> None:
    consumer = RawConsumer({"bootstrap.servers": bootstrap, "group.id": "deaf", "auto.offset.reset": "earliest"})
    producer = RawProducer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    consumer.subscribe([DEAF[0]])
    while not ended.is_set():
        message = consumer.poll(POLL_S)
        if message is not None and message.error() is None:
            producer.produce(DEAF[1], message.value(), message.key())
        producer.poll(0)
    producer.flush(POLL_S)
    consumer.close()


def _settings(broker: EmbeddedBroker, folder: Path) -> Settings:
    kafka = {"bootstrap.servers": broker.bootstrap, "group.id": "chain", "session.timeout.ms": 6000}
    topics: dict[str, dict[str, object]] = {topic: {} for topic in list(CHAIN.before)[:-1] if topic != DEAF[0]}
    document = {"service": "chain", "kafka": kafka, "topics": topics, "worker": {"commit_every": "100ms"}}
    path = folder / "shadowstream.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return load(path, environ={})


def _make_topics(broker: EmbeddedBroker) -> None:
    # A topic of the embedded broker appears when somebody asks for it.
    from shadowstream.kafka.outlets import side_topics
    from shadowstream.lane import Lane

    admin = RawProducer({"bootstrap.servers": broker.bootstrap})
    for topic in CHAIN.before:
        for name in (topic, *(each for lane in Lane for each in side_topics(topic, lane).values())):
            admin.list_topics(name, timeout=10)
