"""The signal on every wire besides Kafka.

==============  ==============================================================================
``propagator``  `Propagator`: what came with a request, and what a call that leaves carries
``carrier``     `Carrier`: what a wire must be able to do
``baggage``     the mark among W3C baggage
``hosts``       `Hosts`: where shadow calls may go
``leases``      `Leases`: which runs may go on
``servers/``    ASGI and WSGI middleware
``clients/``    httpx, requests, aiohttp, urllib3
``grpc/``       gRPC, both sides, sync and asyncio
``tasks/``      thread and process pools, Celery
``held``        work that is done bit by bit, each bit in its lane
``logs``        lane and run on every line that is logged
``refusals``    why marked work is refused, in words
==============  ==============================================================================

A new wire is one module here: hand the headers that came to `Propagator.arrived` and work under what it says, hand
those that leave to `Propagator.departing`, with the host they go to.
"""

from shadowstream.propagate.carrier import Carrier
from shadowstream.propagate.propagator import Arrival, Propagator

__all__ = ["Arrival", "Carrier", "Propagator"]
