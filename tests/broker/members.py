"""One shadow process's gates, in this process, on a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.events import Listeners
from shadowstream.gate import Gates
from tests.lanes import lane_of

if TYPE_CHECKING:
    from shadowstream.config.model import FleetSettings, RateRule
    from shadowstream.gate.fleet import Clerk


class Member:
    """A process that shares its limits, and the run that it may go on with."""

    def __init__(self, fleet: FleetSettings, rate: RateRule | None = None) -> None:
        self.gates = Gates(lane_of(default_rate=rate, fleet=fleet), Listeners())
        self.gate = self.gates.gate("voucher.claim")
        assert self.gates._clerk is not None
        self.clerk: Clerk = self.gates._clerk
