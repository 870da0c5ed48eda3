"""Why marked work is refused, in words for whoever sent it: the reason and the cure, and never what came."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXPIRED", "NOT_TAKING_PART", "NO_LEASE", "SHADOW_OFF", "told"]

EXPIRED: Final = "expired"
NO_LEASE: Final = "no_lease"
NOT_TAKING_PART: Final = "not_taking_part"
SHADOW_OFF: Final = "shadow_off"

CURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        EXPIRED: "its run is over; start a new one",
        NO_LEASE: "its run has no lease here; say `shadowstream arm RUN`",
        NOT_TAKING_PART: "this service takes no part in stress tests; write `propagate: {shadow: on}`, once it may",
        SHADOW_OFF: "shadow is off here because its configuration is wrong; see `shadowstream config check`",
    }
)


def told(reason: str) -> str:
    """Return what is said of work that is refused for ``reason``."""
    return f"shadow work refused: {CURES.get(reason, f'its mark cannot be trusted ({reason})')}"
