"""Clients of the broker in memory, with the methods and the manners of confluent-kafka's."""

from __future__ import annotations

from shadowstream.testing.clients.consumer import MemoryConsumer
from shadowstream.testing.clients.producer import MemoryProducer

__all__ = ["MemoryConsumer", "MemoryProducer"]
