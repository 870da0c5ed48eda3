"""The signal on every wire besides Kafka.

==============  ==============================================================================
``propagator``  `Propagator`: what came with a request, and what a call that leaves carries
``hosts``       `Hosts`: where shadow calls may go
``leases``      `Leases`: which runs may go on
``servers/``    ASGI and WSGI middleware
``clients/``    httpx, requests, aiohttp, urllib3
``grpc/``       gRPC, both sides, sync and asyncio
``tasks/``      thread and process pools, Celery
``held``        work that is done bit by bit, each bit in its lane
``refusals``    why marked work is refused, in words
==============  ==============================================================================

A new wire is one module here: give `Propagator.arrived` the mark headers that came and work under what it says, give
`Propagator.departing` the host and send what it returns.
"""

from shadowstream.propagate.propagator import Arrival, Propagator

__all__ = ["Arrival", "Propagator"]
