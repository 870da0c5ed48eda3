"""Limits for each value of some fields: each user, each promotion, each of anything.

=========  ============================================================
``limit``  `KeyedLimit`: one bucket for each value, in a bounded table
``hot``    which values are asked for most
``gate``   `KeyedGate`: a command's gate behind such a limit
=========  ============================================================
"""

from __future__ import annotations

from shadowstream.gate.keys.gate import KeyedGate
from shadowstream.gate.keys.limit import KeyedLimit

__all__ = ["KeyedGate", "KeyedLimit"]
