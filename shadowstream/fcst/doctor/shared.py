"""What is shared through Redis: is it there, may it be written, what would it forget, and what time is it there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from shadowstream.errors import BrokerError
from shadowstream.fcst.doctor.diagnosis import bad, good, poor
from shadowstream.gate.fleet import Switch
from shadowstream.gate.fleet.places import answered, connected, patient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shadowstream.config import Settings
    from shadowstream.fcst.doctor.diagnosis import Diagnosis

__all__ = ["fleet"]

PATIENCE: Final = 0.5
"""Half of the skew that marks may have: with more, two machines together may exceed it."""


def fleet(settings: Settings, run: str | None) -> Iterator[Diagnosis]:
    """Look at the place that is shared, and at the lease of the run that is to be started."""
    rules = settings.fleet
    if rules is None:
        yield good("fleet", "nothing is shared through Redis, and no run needs a lease")
        return
    client = connected(patient(rules))
    try:
        with answered():
            role, memory = client.info("replication"), client.config_get("maxmemory*")
            before, (seconds, us), after = time.time(), client.time(), time.time()
    except BrokerError as error:
        yield bad("fleet", str(error), "Without it shadow stops by itself.")
        return
    finally:
        client.close()
    yield from _writable(role, memory)
    yield _clock(seconds + us / 1e6 - (before + after) / 2, settings.mark.skew_s)
    if rules.lease:
        yield _lease(Switch(rules).armed(), run)


def _writable(role: dict[str, Any], memory: dict[str, str]) -> Iterator[Diagnosis]:
    if role.get("role") != "master":
        cure = "Name the primary under `fleet: url`."
        yield bad("fleet", f"Redis is a {role.get('role')}, and nothing can be written there", cure)
    elif memory.get("maxmemory", "0") != "0" and memory.get("maxmemory-policy") != "noeviction":
        told = f"Redis forgets keys when it is full (maxmemory-policy {memory.get('maxmemory-policy')})"
        yield poor("fleet", told, "Use a Redis with noeviction: a bucket that is forgotten begins anew.")
    else:
        yield good("fleet", "Redis answers, may be written, and forgets nothing")


def _clock(ahead_s: float, skew_s: float) -> Diagnosis:
    told = f"Redis's clock is {abs(ahead_s):.2f} s {'ahead of' if ahead_s > 0 else 'behind'} this one"
    if abs(ahead_s) > PATIENCE * skew_s:
        return bad("clock", told, f"See to NTP: a mark's expiry is believed within `mark: skew` ({skew_s:g} s).")
    return good("clock", told)


def _lease(armed: dict[str, float], run: str | None) -> Diagnosis:
    names = ", ".join(f"{name} for {left:.0f} s" for name, left in armed.items()) or "none"
    if run is None or run in armed:
        return good("lease", f"runs need a lease; those that have one: {names}")
    return bad("lease", f"run {run} has no lease (those that have one: {names})", f"shadowstream arm {run} --for 2h")
