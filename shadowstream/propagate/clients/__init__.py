"""HTTP clients that carry the lane of the work at hand, and stop a shadow call to a host that is not listed.

============  ===========================================================
``httpx``     ``carrying(client, propagator)``, sync and async
``requests``  ``carrying(session, propagator)``
``aiohttp``   ``ClientSession(middlewares=[lane_middleware(propagator)])``
``urllib3``   ``LanePools(propagator)``, a pool manager
``wire``      what they share
============  ===========================================================

Each looks at every request that is really sent, and so at each redirect: where that leads is asked anew.
"""
