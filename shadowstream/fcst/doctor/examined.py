"""All checks, in the order in which they help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.errors import BrokerError
from shadowstream.fcst.doctor.cluster import Cluster
from shadowstream.fcst.doctor.diagnosis import bad
from shadowstream.fcst.doctor.members import groups
from shadowstream.fcst.doctor.own import hosts, keys, lanes
from shadowstream.fcst.doctor.shared import fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config import Settings
    from shadowstream.fcst.doctor.diagnosis import Diagnosis

__all__ = ["examined"]


def examined(settings: Settings, run: str | None = None, *, timeout_s: float = 10.0) -> Iterator[Diagnosis]:
    """Look at everything that a stress test of this service needs; lines come as they are found.

    ``run`` is the test that is to be started: its lease is looked for. Brokers are waited for ``timeout_s`` seconds.
    """
    yield from lanes(settings)
    yield from keys(settings)
    yield from hosts(settings)
    yield from fleet(settings, run)
    try:
        cluster = Cluster(settings, timeout_s)
        yield from cluster.brokers()
        yield from cluster.topics()
        yield from groups(settings, cluster.admin)
    except BrokerError as error:
        yield bad("brokers", str(error), "See to `kafka: bootstrap.servers`, and to the brokers.")
