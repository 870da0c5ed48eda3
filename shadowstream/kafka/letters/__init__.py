"""Letters: what lies in the side topics of a topic, read by people and sent back to where it came from.

=============  ==============================================================================
``box``        where letters lie and where they go back to: dead ones of each lane, parked ones, those at rest
``story``      what happened to a letter, told by its headers
``letter``     one letter, and whether it may go back: pure rules
``selection``  which letters somebody meant
``progress``   which letters are answered for: pure books, and their note in a commit
``reading``    from the oldest letter to the newest at the start; joins no group
``pace``       how fast letters may go: the rate that was asked for, and shadow's own gate
``replay``     read, judge, pace, send, wait for reports, commit
=============  ==============================================================================
"""

from __future__ import annotations

from shadowstream.kafka.letters.box import Box, BoxKind, box_of, boxes_of
from shadowstream.kafka.letters.letter import Fate, Letter
from shadowstream.kafka.letters.reading import Found, browse
from shadowstream.kafka.letters.replay import Ending, Orders, Replay, Tally
from shadowstream.kafka.letters.selection import Selection, selection_of
from shadowstream.kafka.letters.story import Story

__all__ = [
    "Box",
    "BoxKind",
    "Ending",
    "Fate",
    "Found",
    "Letter",
    "Orders",
    "Replay",
    "Selection",
    "Story",
    "Tally",
    "box_of",
    "boxes_of",
    "browse",
    "selection_of",
]
