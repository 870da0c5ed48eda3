"""Is the command healthy enough to be called?

============  =====================================================================================
``windows``   how the last calls ended: the last so many (`CountWindow`), or of so long (`TimeWindow`)
``blame``     which errors are the command's failures (`Blame`)
``breaker``   phase, permits, generation; pybreaker for the world (`Breaker`)
============  =====================================================================================
"""

from __future__ import annotations

from shadowstream.gate.breaker.breaker import Breaker

__all__ = ["Breaker"]
