"""The broker's side of consumer groups: who is a member, in which generation, with which partitions.

``classic.py`` has join, sync and generations (the protocols called eager and cooperative); ``modern.py`` has member
epochs and a reconciliation by the broker (KIP-848, ``group.protocol=consumer``); ``offsets.py`` where groups stand.
"""

from __future__ import annotations

from shadowstream.testing.groups.classic import ClassicGroup
from shadowstream.testing.groups.modern import ModernGroup
from shadowstream.testing.groups.offsets import METADATA_LIMIT, Offsets, Stand
from shadowstream.testing.groups.seats import NOBODY, Application, Credentials

__all__ = [
    "METADATA_LIMIT",
    "NOBODY",
    "Application",
    "ClassicGroup",
    "Credentials",
    "ModernGroup",
    "Offsets",
    "Stand",
]
