"""Shipped fakes: a Kafka cluster in memory and its clients, on a clock that tests move.

One thread, no real time, nothing random: a test decides who is called when, what goes wrong, and how time passes, so
whatever it finds happens again::

    clock = Clock()
    broker = Broker(clock)
    broker.create_topic("voucher.claimed", partitions=2)
    consumer = MemoryConsumer({"group.id": "g", "enable.auto.commit": False}, broker=broker)
    producer = MemoryProducer({}, broker=broker)

``clock.py`` is the time, ``broker.py`` the cluster with its ``log.py``, ``groups/`` and ``transactions.py``,
``clients/`` what confluent-kafka is in production, ``faults.py`` what a test lets go wrong. What the clients do was
compared with the real ones: one suite runs on both (``tests/unit/testing``, ``tests/broker``).
"""

from __future__ import annotations

from shadowstream.testing.broker import Broker
from shadowstream.testing.clients import MemoryConsumer, MemoryProducer
from shadowstream.testing.clock import Clock
from shadowstream.testing.faults import Fault, Faults

__all__ = ["Broker", "Clock", "Fault", "Faults", "MemoryConsumer", "MemoryProducer"]
