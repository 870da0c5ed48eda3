"""Resting: what failed to the end rests in a retry topic and comes again, so that nothing waits behind it.

============  =====================================================================
``rest``      how long a message rests, and what it went through before: pure
``returned``  a message that came again, as handlers see it, and how it is read
============  =====================================================================

Traps:

* A retry topic belongs to one lane. A marked message in the normal one, or an unmarked one in shadow's, is quarantined
  (``test_a_message_in_the_other_lanes_retry_topic_is_quarantined``).
* A copy too large with its labels goes without its value, and must never be handled so: it is dead-lettered when it
  comes back (``test_a_message_too_large_to_rest_is_dead_lettered_and_counted``).
* Labels count as headers, and a message with too many headers is quarantined: marks are read without them
  (``test_a_message_with_as_many_headers_as_may_be_comes_again``).
"""

from __future__ import annotations

from shadowstream.kafka.resting.rest import due_after, rest_s, so_far
from shadowstream.kafka.resting.returned import Returned, Returns

__all__ = ["Returned", "Returns", "due_after", "rest_s", "so_far"]
