"""Everything that talks to Kafka.

=================  =====================================================================
``producer``       `Producer`: confluent-kafka's produce(), plus the mark
``consumer``       `Consumer`: the thin wrapper for a poll loop of one's own
``worker/``        `Worker`: handlers in two lanes, a process each
``engine/``        one message, one straight line; the only place that knows the order
``strands/``       who carries what: order, threads, tasks on the lane's event loop
``cursor/``        one lane's reader: poll, hand over, commit, rebalance
``offsets/``       the books: what may be committed, and what is finished above that
``transactions/``  outputs and offsets of a lane in one transaction
``outlets``        durable copies: parked, quarantined, dead-lettered
``letters/``       reading those copies, and sending them back
``message``        a message as handlers see it
``clock``          where time and chance come from
``clients``        properties of the clients underneath, and what their errors mean
=================  =====================================================================
"""

from __future__ import annotations

from shadowstream.kafka.clients import usable
from shadowstream.kafka.consumer import Consumer
from shadowstream.kafka.message import Message
from shadowstream.kafka.producer import Producer
from shadowstream.kafka.worker import Worker

__all__ = ["Consumer", "Message", "Producer", "Worker", "usable"]
