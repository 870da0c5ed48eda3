"""``shadowstream demo``: the whole idea in under two minutes.

============  =============================================================================
``setup``     `Demo`: sets everything up, and takes everything down however a run ends
``phases``    what happens in between: warm up, normal alone, ramp, stuck, release
``table``     shows a run while it goes on
============  =============================================================================
"""

from __future__ import annotations

from shadowstream.fcst.demo.phases import Plan
from shadowstream.fcst.demo.setup import Demo, Result
from shadowstream.fcst.demo.table import Screen

__all__ = ["Demo", "Plan", "Result", "Screen"]
