"""The stages of one command, folded into one gate.

==========  ==========================================================================
``rules``   what a command goes by (`Rules`)
``stages``  what is kept of it between decisions, and follows its rules (`Stages`)
``fold``    one decision over all of them: check all, then take (`Chain`, `folded`)
==========  ==========================================================================
"""

from __future__ import annotations

from shadowstream.gate.chain.fold import Chain, folded
from shadowstream.gate.chain.rules import Rules
from shadowstream.gate.chain.stages import Stages

__all__ = ["Chain", "Rules", "Stages", "folded"]
