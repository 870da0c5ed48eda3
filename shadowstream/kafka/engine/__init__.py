"""The straight line of one message, and what it is built from.

============  ================================================================================
``line``      `Engine`: read mark > ask gate > run handler > tell gate > settle; the order
``fate``      whose message it is, and what becomes of one that is not ours
``binding``   what one lane decided about a topic and its handler when the worker was built
``tally``     what a strand notes on the way, announced for many messages at once
============  ================================================================================
"""

from __future__ import annotations

from shadowstream.kafka.engine.binding import Binding
from shadowstream.kafka.engine.fate import fate
from shadowstream.kafka.engine.line import Engine

__all__ = ["Binding", "Engine", "fate"]
