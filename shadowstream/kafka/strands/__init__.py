"""Who carries what: strands keep the order, hands do the work.

A strand is what must stay in order: one partition, one key, or a single message. A hand is a thread, or a task on the
lane's one event loop; it carries one piece at a time, whichever strand's turn it is. So a slow or stuck message holds
up its own strand and nothing else, as long as there are hands.

===========  =======================================================================
``order``    how a batch is cut into pieces, and which piece's turn it is: pure
``load``     the bounds in messages and bytes
``hands``    what the engine asks of whoever carries it, and what the cursor does
``threads``  hands that are threads, for sync handlers
``loop``     hands that are tasks on the lane's event loop, for async handlers
===========  =======================================================================
"""

from __future__ import annotations

from shadowstream.kafka.strands.hands import Crew, Hands
from shadowstream.kafka.strands.loop import LaneLoop, Tasks
from shadowstream.kafka.strands.threads import Threads

__all__ = ["Crew", "Hands", "LaneLoop", "Tasks", "Threads"]
