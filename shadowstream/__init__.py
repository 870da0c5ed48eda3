"""Two lanes on one Kafka log: stress test a whole production chain without hurting one real user.

::

    import shadowstream as ss

    settings = ss.load("shadowstream.yaml")
    worker = ss.Worker(settings)

    @worker.handles("voucher.claimed", command="voucher.dispatch")
    def dispatch(message): ...

    worker.run()

The map, from the roof down; imports go downwards only::

    cli/          commands: parse, call one function, print
    fcst/         the stress test: load, watch, verdict, the demo
    kafka/        producer, consumer (thin), worker, engine, cursor, offsets, outlets, rounds, letters
    integrations/ frameworks that read Kafka by themselves: Faust
    propagate/    the mark over other wires: HTTP, gRPC, Celery, pools
    metrics/      turns events into numbers
    gate/         may this message go on? rate, breaker, cap, keys, guard, fleet, chain
    config/       frozen settings; shadow.* over normal; live changes; explain
    headers/      the mark on the wire
    events.py     frozen facts the rooms announce
    lane.py       the one signal
    errors.py     one tree of errors

The words: a **lane** is normal or shadow; a **mark** is the header that says shadow; a **run** is one stress test; a
**cursor** is one lane's reader; a **gate** hands out a **ticket** with a **verdict** (admit, wait, park, shed); to
**settle** is to answer for an offset; a **sink** is where data goes; what cannot be trusted goes to **quarantine**,
what is kept for later is **parked**.
"""

from __future__ import annotations

from shadowstream.config import Settings, load
from shadowstream.errors import ConfigError, NotAllowedError, RefusedError, ShadowstreamError
from shadowstream.gate import Guarded
from shadowstream.kafka import Consumer, Message, Producer, Worker
from shadowstream.lane import Lane, Mark, current, entered, is_shadow
from shadowstream.propagate import Propagator

__all__ = [
    "ConfigError",
    "Consumer",
    "Guarded",
    "Lane",
    "Mark",
    "Message",
    "NotAllowedError",
    "Producer",
    "Propagator",
    "RefusedError",
    "Settings",
    "ShadowstreamError",
    "Worker",
    "current",
    "entered",
    "is_shadow",
    "load",
]
__version__ = "0.1.0"
