"""How long a message rests in a retry topic, and what it went through before: pure, time is an argument.

Due times are on the wall clock, as another process reads them. A rest is never longer than it was meant to be when the
message failed, so a clock that was set back by an hour costs no hour
(``test_a_wall_clock_that_was_set_back_makes_no_rest_longer``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shadowstream.kafka.labels import Story as Told
    from shadowstream.kafka.letters.story import Story

__all__ = ["due_after", "rest_s", "so_far"]

JITTER: Final = 0.2
LONGEST_S: Final = 1.25 * 86400
"""The longest rest that can be configured, with its jitter; a label that says more is none of ours."""


def due_after(failed_at: float, rest: float, chance: float) -> float:
    """Return when a message is due that failed at Unix second ``failed_at``: after its rest, and a random bit later.

    ``chance`` is from 0 to below 1. A message of a retry topic may wait for one before it in its strand: never longer
    than that random bit.
    """
    return failed_at + rest * (1 + JITTER * chance)


def rest_s(story: Story, now: float) -> float:
    """Return for how many seconds a message rests from Unix second ``now`` on; 0: it is due, or says nothing of it."""
    if story.due_ms is None:
        return 0.0
    meant_ms = LONGEST_S * 1000 if story.failed_at_ms is None else story.due_ms - story.failed_at_ms
    return max(min(story.due_ms / 1000 - now, meant_ms / 1000, LONGEST_S), 0.0)


def so_far(blank: Told, story: Story) -> Told:
    """Go on with a story where the labels of a message leave it."""
    return replace(
        blank,
        attempts=story.attempts or 0,
        first_failed_at=(story.first_failed_ms or 0) / 1000,
        rounds=story.rounds,
    )
