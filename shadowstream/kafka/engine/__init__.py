"""The straight line of one message, and what it is built from.

============  ================================================================================
``line``      `Engine`: read mark > ask gate > run handler > tell gate > settle; the order
``reading``   what each message is, a hundred looked at together
``attempt``   one call of the handler in its lane, between two calls of the gate
``overdue``   calls that are past their timeout and cannot be stopped
``settling``  messages that their handler settles itself
``fate``      whose message it is, and what becomes of one that is not ours
``binding``   what one lane decided about a topic and its handler when the worker was built
``tally``     what a strand notes on the way, announced for many messages at once
============  ================================================================================
"""

from __future__ import annotations

from shadowstream.kafka.engine.attempt import is_async
from shadowstream.kafka.engine.binding import Binding
from shadowstream.kafka.engine.fate import fate, foreign
from shadowstream.kafka.engine.line import Engine

__all__ = ["Binding", "Engine", "fate", "foreign", "is_async"]
