"""Limits that are those of many processes together, by leases from Redis; for the shadow lane alone.

=============  ============================================================================
``lease.lua``  what Redis does: one bucket for each limit, and who is there
``stock``      `Stock`: what this process holds, checked and taken without asking anybody
``clerk``      `Clerk`: the thread that fetches leases, and what happens when nobody answers
=============  ============================================================================
"""

from __future__ import annotations

from shadowstream.gate.fleet.clerk import Clerk
from shadowstream.gate.fleet.stock import Stock

__all__ = ["Clerk", "Stock"]
