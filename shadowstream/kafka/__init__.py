"""Everything that talks to Kafka.

=================  ==============================================================
"""

from __future__ import annotations

from shadowstream.kafka.clients import usable
from shadowstream.kafka.consumer import Consumer
from shadowstream.kafka.message import Message
from shadowstream.kafka.producer import Producer
from shadowstream.kafka.worker import Worker

__all__ = ["Consumer", "Message", "Producer", "Worker", "usable"]
