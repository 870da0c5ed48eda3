"""The signal on wires other than Kafka: what a request that came is, and what a call that leaves carries.

Every wire asks the same two questions and knows nothing else of marks, so a new one is one module. What arrives is
believed by the rules of Kafka's marks. What cannot be is refused, where somebody can still be told; it is never taken
for normal, with one exception: at the edge, where anybody may write anything, what claims no signature is taken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.events import Crossed, Listeners
from shadowstream.headers import Kind, MarkReader, MarkWriter
from shadowstream.lane import Lane, mark_here
from shadowstream.propagate.hosts import Hosts
from shadowstream.propagate.leases import Leases
from shadowstream.propagate.refusals import EXPIRED, NO_LEASE, NOT_TAKING_PART, SHADOW_OFF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.headers import Reading
    from shadowstream.lane import Mark

__all__ = ["NORMAL", "Arrival", "Propagator"]

SIGNATURE: Final = b"sig="
FOREIGN: Final = "foreign"
NOT_LISTED: Final = "not_listed"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came in with one request."""

    mark: Mark | None = None
    """The mark to do the work under; None: in the normal lane, or not at all."""
    refused: str = ""
    """Why it must not be done at all; a metric label."""
    stripped: bool = False
    """Whether a foreign mark is to be taken off before anybody sees it."""


NORMAL: Final = Arrival()


class Propagator:
    """One service's signal on its wires; make one for a process and give it to every wire.

    ``hooks`` are told of whatever is not plainly normal; ``clock`` gives unix seconds.
    """

    def __init__(
        self, settings: Settings, hooks: Iterable[Hook] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self.header = settings.mark.header
        """The mark's name on every wire."""
        self._rules = settings.propagate
        self._reader, self._writer = MarkReader.of(settings.mark), MarkWriter.of(settings.mark)
        self._allowed, self._unmarked = Hosts(self._rules.allow), Hosts(self._rules.unmarked)
        self._listeners, self._clock = Listeners(hooks), clock
        self._off = _off(settings)
        fleet = None if settings.shadow is None else settings.shadow.fleet
        self._leases = Leases(fleet) if fleet is not None and fleet.lease and not self._off else None

    def arrived(self, values: Sequence[bytes], wire: str) -> Arrival:
        """Say what a request is that came over ``wire`` with these mark headers, as many as there were."""
        if not values:
            return NORMAL
        arrival = self._judged(values)
        if arrival.refused:
            self._tell(Lane.SHADOW, wire, "in", "refused", arrival.refused)
        elif arrival.stripped:
            self._tell(Lane.NORMAL, wire, "in", "stripped", FOREIGN)
        else:
            self._tell(Lane.SHADOW, wire, "in", "carried")
        return arrival

    def departing(self, host: str, port: int | None, wire: str, present: Sequence[bytes] = ()) -> str | None:
        """Return the mark that a call to ``host`` carries over ``wire``; None: it carries none.

        ``present`` are the mark headers that the call has already; whatever is returned replaces them.

        Raises:
            NotAllowedError: the work at hand is shadow, and the configuration does not list the host.
            MarkError: the call has a mark already that is not the one of the work at hand, or it cannot be passed on.
        """
        mark = mark_here()
        if present:
            self._agree(mark, present)
        if mark is None:
            return None
        if self._allowed.has(host, port):
            self._tell(Lane.SHADOW, wire, "out", "carried")
            return self._writer.onward(mark, self._clock()).decode()
        if self._unmarked.has(host, port):
            self._tell(Lane.SHADOW, wire, "out", "unmarked")
            return None
        self._tell(Lane.SHADOW, wire, "out", "refused", NOT_LISTED)
        raise NotAllowedError(_not_allowed(host, port))

    def close(self) -> None:
        """Leave what is shared with other processes."""
        if self._leases is not None:
            self._leases.close()

    def _judged(self, values: Sequence[bytes]) -> Arrival:
        # Where something claims a signature it may be a test of ours that went wrong, and no test becomes real work.
        if self._rules.edge and not any(SIGNATURE in value for value in values):
            return Arrival(stripped=True)
        reading = self._read(values)
        if reading.kind is not Kind.SHADOW:
            return Arrival(refused=reading.reason or EXPIRED)
        if self._off:
            return Arrival(refused=self._off)
        run = None if reading.mark is None else reading.mark.run
        if self._leases is not None and not self._leases.live(run):
            return Arrival(refused=NO_LEASE)
        return Arrival(reading.mark)

    def _read(self, values: Sequence[bytes]) -> Reading:
        # Wires may join what was sent as several headers; no mark has a comma in it.
        parts = [part.strip(b" \t") for value in values for part in value.split(b",")]
        return self._reader.read([(self.header, part) for part in parts], self._clock())

    def _agree(self, mark: Mark | None, present: Sequence[bytes]) -> None:
        reading = self._read(present)
        if reading.mark is None or mark is None or reading.mark.run != mark.run:
            raise MarkError(
                f"the call carries {self.header} already ({reading.reason or reading.kind}) but the work at hand is"
                f" {'normal' if mark is None else f'run {mark.run!r}'}; leave the header out, it is set by itself"
            )

    def _tell(self, lane: Lane, *what: str) -> None:
        if self._listeners:
            self._listeners.on(Crossed(lane, *what))


def _off(settings: Settings) -> str:
    if not settings.propagate.shadow:
        return NOT_TAKING_PART
    return SHADOW_OFF if settings.shadow is None else ""


def _not_allowed(host: str, port: int | None) -> str:
    place = host if port is None else f"{host}:{port}"
    return (
        f"a shadow call to {place!r} was stopped: nobody has said that it knows shadow traffic; list it under"
        " `propagate: {allow: [...]}`, or, if what it does hurts nobody, under `unmarked`"
    )
