"""What a request is told over HTTP whose mark is not taken."""

from __future__ import annotations

import json
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from shadowstream.propagate.refusals import EXPIRED, NO_LEASE, NOT_TAKING_PART, SHADOW_OFF, told

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["refusal"]

STATUS: Final[Mapping[str, HTTPStatus]] = MappingProxyType(
    {
        EXPIRED: HTTPStatus.GONE,
        NO_LEASE: HTTPStatus.FORBIDDEN,
        NOT_TAKING_PART: HTTPStatus.FORBIDDEN,
        SHADOW_OFF: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)


def refusal(reason: str) -> tuple[HTTPStatus, bytes]:
    """Return status and JSON body of the answer to a request that is refused for ``reason``."""
    body = json.dumps({"error": told(reason), "reason": reason}).encode() + b"\n"
    return STATUS.get(reason, HTTPStatus.BAD_REQUEST), body
