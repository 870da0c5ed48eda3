"""Turns events into numbers; knows events and nothing of the rooms that announce them.

* `prometheus.py`: `PrometheusHook`, which listens, and `serve`, which lets it be scraped;
* `tables.py`: the numbers by label, and the cap on how many labels there may be;
* `serving.py`: the HTTP server, which can neither stop nor slow the worker.

Needs the extra ``shadowstream[metrics]``. Importing this package does not: the extra is asked for when `PrometheusHook`
or `serve` is first used, and a `SetupError` names the cure when it is missing (guarded by
``test_without_prometheus_client_the_error_names_the_cure``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowstream.metrics.prometheus import PrometheusHook, serve, watched
    from shadowstream.metrics.serving import MetricsServer

__all__ = ["MetricsServer", "PrometheusHook", "serve", "watched"]


def __getattr__(name: str) -> object:
    """Import what is asked for only now, so that the extra stays optional."""
    if name in __all__:
        return getattr(import_module("shadowstream.metrics.prometheus"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, though none is imported yet."""
    return sorted(__all__)
