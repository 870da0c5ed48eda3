"""The books: which offsets of a partition are answered for, and what may be committed.

Pure: no I/O, no lock, no clock, no client.

==========  ==================================================================================
``piece``   `Piece`: some messages of one partition, carried in order by one strand
``window``  `Window`: one partition during one assignment; what to commit, and what to skip
``done``    `Done`: what is finished above a commit, as it is written into the commit's metadata
``runs``    lists of numbers as short text
==========  ==================================================================================
"""

from __future__ import annotations

from shadowstream.kafka.offsets.done import NOTHING_DONE, Done
from shadowstream.kafka.offsets.piece import Piece, Token, offset_of, source
from shadowstream.kafka.offsets.window import Due, Window

__all__ = ["NOTHING_DONE", "Done", "Due", "Piece", "Token", "Window", "offset_of", "source"]
