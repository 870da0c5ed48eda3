"""What the processes of the shadow lane share through Redis: limits by lease, and which runs may go on.

=============  ============================================================================
``places``     where it lies in Redis, and the client
``lease.lua``  one bucket for each limit, and what is left for whom
``stock``      `Stock`: what this process holds, checked and taken without asking anybody
``trips``      `Trips`: breakers that open together
``trip.lua``   says that one has opened
``beat.lua``   a sign of life, and what it hears
``runs``       `Runs`: the runs with a lease; `RunGate`: a gate behind that question
``clerk``      `Clerk`: the thread that asks, and what happens when nobody answers
``layer``      `Layer`: what is laid over the configuration of every shadow process
``switch``     `Switch`: arm, disarm and kill, for whoever is in charge
=============  ============================================================================
"""

from __future__ import annotations

from shadowstream.gate.fleet.clerk import Clerk
from shadowstream.gate.fleet.layer import Layer, parsed
from shadowstream.gate.fleet.runs import RunGate, Runs
from shadowstream.gate.fleet.stock import Stock
from shadowstream.gate.fleet.switch import Killed, Switch

__all__ = ["Clerk", "Killed", "Layer", "RunGate", "Runs", "Stock", "Switch", "parsed"]
