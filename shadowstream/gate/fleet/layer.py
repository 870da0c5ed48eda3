"""The live layer: what somebody at a terminal lays over every shadow process's configuration, kept in Redis."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shadowstream.gate.fleet.places import Places, answered, connected, patient
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shadowstream.config.model import FleetSettings

__all__ = ["DOCUMENT", "VERSION", "Layer", "parsed"]

DOCUMENT, VERSION = "document", "version"


def parsed(document: str | None) -> Mapping[str, object] | None:
    """Return what a document lays over the configuration; None when it lays nothing.

    Raises:
        ValueError: it is not the text of a mapping.
    """
    if not document:
        return None
    laid: Any = json.loads(document)
    if not isinstance(laid, dict):
        raise ValueError("the live layer is not a mapping")  # noqa: TRY004 - of JSON, a wrong value
    return laid or None


class Layer:
    """Reads and writes it, for whoever is in charge."""

    def __init__(self, fleet: FleetSettings) -> None:
        self._client = connected(patient(fleet))
        self._place = Places(fleet, Lane.SHADOW).live

    def read(self) -> tuple[str, str | None]:
        """Return the version ('' when there is none) and the document.

        Raises:
            BrokerError: Redis does not answer.
        """
        with answered():
            version, document = self._client.hmget(self._place, VERSION, DOCUMENT)
        return version or "", document

    def write(self, laid: Mapping[str, object], over: str) -> bool:
        """Put a document in place of the version ``over``; False when somebody else was faster.

        Raises:
            BrokerError: Redis does not answer.
        """
        from redis import WatchError

        document = json.dumps(laid, sort_keys=True)
        with answered(), self._client.pipeline() as pipe:
            pipe.watch(self._place)
            if (pipe.hget(self._place, VERSION) or "") != over:
                return False
            pipe.multi()
            # Also when it lays nothing: what is not there may have been lost, and is not gone by.
            pipe.hset(self._place, mapping={VERSION: sha256(document.encode()).hexdigest()[:12], DOCUMENT: document})
            try:
                pipe.execute()
            except WatchError:
                return False
            return True
