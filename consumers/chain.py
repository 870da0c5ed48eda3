"""What the services of the voucher chain agree on: topics, where settings are, how metrics are served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowstream.metrics import PrometheusHook

__all__ = ["CANCELLED", "CLAIMED", "DISPATCHED", "SETTLED", "USED", "settings_file", "watched"]

# Several deployments of the chain can share a cluster: a prefix sets the topics of one apart, as the demo does.
PREFIX = os.environ.get("VOUCHER_TOPIC_PREFIX", "")

CLAIMED = f"{PREFIX}voucher.claimed"
DISPATCHED = f"{PREFIX}voucher.dispatched"
USED = f"{PREFIX}voucher.used"
SETTLED = f"{PREFIX}voucher.settled"
CANCELLED = f"{PREFIX}voucher.cancelled"


def settings_file(app: str) -> Path:
    """Return where a service's settings are: in ``SHADOWSTREAM_CONFIG``, else beside its ``app.py``."""
    return Path(os.environ.get("SHADOWSTREAM_CONFIG") or Path(app).with_name("shadowstream.yaml"))


def watched(port: int | None) -> list[PrometheusHook]:
    """Serve a lane's numbers on a port and return who collects them; without a port nobody does."""
    if port is None:
        return []
    from shadowstream.metrics import PrometheusHook, serve

    hook = PrometheusHook()
    serve(hook, port, os.environ.get("VOUCHER_METRICS_ADDRESS", "0.0.0.0"))  # noqa: S104 - scraped from elsewhere
    return [hook]
