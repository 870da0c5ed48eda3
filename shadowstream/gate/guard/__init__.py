"""Cuts shadow when normal suffers.

==========  =====================================================================================
``vitals``  how normal is, as its process writes it down for its sibling (`Vitals`, `Board`)
``pulse``   takes normal's vitals, from what it announces (`Pulse`)
``level``   from vitals to the level in [0, 1]: cut at once, recover slowly, latch (`Level`)
``guard``   the thread that looks, and what it tells (`Guard`)
``share``   what the level leaves of a command's calls, and what normal leaves (`Share`)
==========  =====================================================================================

Nothing here touches normal: it writes a small file, four times a second, and never reads anything of shadow's. Traps:

* A file that is half-written would be read as another's vitals: it is put in place whole
  (``test_vitals_are_read_whole_however_often_they_are_written``).
* Silence is no calm: without fresh vitals shadow is cut as if normal suffered, until it stands still
  (``test_who_is_blind_is_cut_until_nothing_is_left``).
* What was slow before a cut is still in the window after it: it is not cut for it again
  (``test_one_slow_second_is_cut_once``).
"""

from __future__ import annotations

from shadowstream.gate.guard.guard import Guard
from shadowstream.gate.guard.level import Level
from shadowstream.gate.guard.pulse import Pulse
from shadowstream.gate.guard.share import Share
from shadowstream.gate.guard.vitals import Board, Memo, Vitals

__all__ = ["Board", "Guard", "Level", "Memo", "Pulse", "Share", "Vitals"]
