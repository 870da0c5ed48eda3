"""Exactly once: what handlers produce and the offsets of their sources, in one transaction of the lane.

What a handler produces waits in memory until its source is answered for; then one short transaction takes outputs and
offsets together, and a reader of committed messages sees both or neither. No transaction is open while a handler runs,
so a slow or stuck one neither holds up readers nor runs into the transaction's timeout.

===============  ==================================================================================
``outbox``       what one call of a handler produced, and what the producer gives it to
``ledger``       what waits for its transaction: of a partition, of a topic; the bounds
``joining``      turns a topic's binding and its outlets into transactional ones
``transaction``  one transaction at a time, step by step
``aside``        the same on a thread of its own, so that polling goes on
``failures``     which output a transaction failed for, and what becomes of that
``rounds``       what goes into the next transaction, and what happens after its end
===============  ==================================================================================
"""

from __future__ import annotations

from shadowstream.kafka.transactions.joining import Slips, joined_to
from shadowstream.kafka.transactions.ledger import Shelf
from shadowstream.kafka.transactions.rounds import Rounds

__all__ = ["Rounds", "Shelf", "Slips", "joined_to"]
