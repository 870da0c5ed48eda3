"""The signal on every wire besides Kafka.

==============  ==============================================================================
``propagator``  `Propagator`: what came with a request, and what a call that leaves carries
``hosts``       `Hosts`: where shadow calls may go
``leases``      `Leases`: which runs may go on
``servers/``    ASGI and WSGI middleware
``clients/``    httpx, requests, aiohttp, urllib3
==============  ==============================================================================

A new wire is one module here: give `Propagator.arrived` the mark headers that came and work under what it says, give
`Propagator.departing` the host and send what it returns.
"""

from shadowstream.propagate.propagator import Arrival, Propagator

__all__ = ["Arrival", "Propagator"]
