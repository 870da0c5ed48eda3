"""One lane's reader: owns the consumer, hands batches to the hands, commits what is answered for.

===========  ===============================================================
``reader``   `Cursor`: polls, hands over, pauses, meets rebalances; one thread
``commits``  `Commits`: the windows, and what is committed of them
``parts``    `Parts`: what a cursor is put together from
===========  ===============================================================
"""

from __future__ import annotations

from shadowstream.kafka.cursor.parts import Beginning, Parts
from shadowstream.kafka.cursor.reader import Cursor

__all__ = ["Beginning", "Cursor", "Parts"]
