"""The signal on wires other than Kafka: what a request that came is, and what a call that leaves carries.

Every wire hands over its headers (`Carrier`) with the same two questions and knows nothing else of marks, so a new one
is one module. What arrives is believed by the rules of Kafka's marks. What cannot be is refused, where somebody can
still be told; it is never taken for normal, with one exception: at the edge, where anybody may write anything, what
claims no signature is taken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.events import Crossed, Listeners
from shadowstream.headers import Kind, MarkReader, MarkWriter
from shadowstream.lane import Lane, mark_here
from shadowstream.propagate.baggage import HEADER, marks, mirrored, without
from shadowstream.propagate.hosts import Hosts
from shadowstream.propagate.leases import Leases
from shadowstream.propagate.refusals import EXPIRED, NO_LEASE, NOT_TAKING_PART, SHADOW_OFF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shadowstream.config import Settings
    from shadowstream.events import Hook
    from shadowstream.headers import Reading
    from shadowstream.lane import Mark
    from shadowstream.propagate.carrier import Carrier

__all__ = ["NORMAL", "Arrival", "Propagator"]

SIGNATURE: Final = b"sig="
FOREIGN: Final = "foreign"
NOT_LISTED: Final = "not_listed"
BAGGAGE: Final = "baggage_conflict"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came in with one request."""

    mark: Mark | None = None
    """The mark to do the work under; None: in the normal lane, or not at all."""
    refused: str = ""
    """Why it must not be done at all; a metric label."""


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
        self.names = (self.header.lower(), HEADER) if self._rules.baggage else (self.header.lower(),)
        """The headers that may hold a mark, in lower case: a request without any of them is normal."""
        self._reader, self._writer = MarkReader.of(settings.mark), MarkWriter.of(settings.mark)
        self._allowed, self._unmarked = Hosts(self._rules.allow), Hosts(self._rules.unmarked)
        self._listeners, self._clock = Listeners(hooks), clock
        self._off = _off(settings)
        fleet = None if settings.shadow is None else settings.shadow.fleet
        self._leases = Leases(fleet) if fleet is not None and fleet.lease and not self._off else None

    def arrived(self, carrier: Carrier, wire: str) -> Arrival:
        """Say what a request is that came over ``wire``; at the edge a foreign mark is taken off its headers."""
        values, copies = self._present(carrier)
        if not values and not copies:
            return NORMAL
        # Where something claims a signature it may be a test of ours that went wrong, and no test becomes real work.
        if self._rules.edge and not any(SIGNATURE in value for value in (*values, *copies)):
            self._strip(carrier)
            self._tell(Lane.NORMAL, wire, "in", "stripped", FOREIGN)
            return NORMAL
        arrival = self._judged(values, copies)
        self._tell(Lane.SHADOW, wire, "in", "refused" if arrival.refused else "carried", arrival.refused)
        return arrival

    def departing(self, carrier: Carrier, host: str, port: int | None, wire: str) -> None:
        """Put the mark of the work at hand on a call to ``host``, and take off what must not go there.

        Raises:
            NotAllowedError: the work at hand is shadow, and the configuration does not list the host.
            MarkError: the call has a mark already that is not the one of the work at hand, or it cannot be passed on.
        """
        mark = mark_here()
        # Copied by a redirect, or set by hand.
        values, copies = self._present(carrier)
        self._agree(mark, [*values, *copies])
        if mark is None:
            return
        if self._allowed.has(host, port):
            self._stamp(carrier, self._writer.onward(mark, self._clock()).decode())
            self._tell(Lane.SHADOW, wire, "out", "carried")
        elif self._unmarked.has(host, port):
            self._strip(carrier)
            self._tell(Lane.SHADOW, wire, "out", "unmarked")
        else:
            self._tell(Lane.SHADOW, wire, "out", "refused", NOT_LISTED)
            raise NotAllowedError(_not_allowed(host, port))

    def close(self) -> None:
        """Leave what is shared with other processes."""
        if self._leases is not None:
            self._leases.close()

    def _judged(self, values: list[bytes], copies: list[bytes]) -> Arrival:
        reading = self._read(values or copies)
        if values and copies and not _same(reading, self._read(copies)):
            return Arrival(refused=BAGGAGE)
        if reading.kind is not Kind.SHADOW:
            return Arrival(refused=reading.reason or EXPIRED)
        if self._off:
            return Arrival(refused=self._off)
        run = None if reading.mark is None else reading.mark.run
        if self._leases is not None and not self._leases.live(run):
            return Arrival(refused=NO_LEASE)
        return Arrival(reading.mark)

    def _read(self, values: Sequence[bytes]) -> Reading:
        return self._reader.read([(self.header, value) for value in values], self._clock())

    def _present(self, carrier: Carrier) -> tuple[list[bytes], list[bytes]]:
        """Return the marks that are there, and the copies of them in the baggage."""
        copies = marks(carrier.values(HEADER), self.header) if self._rules.baggage else []
        return _parts(carrier.values(self.header)), copies

    def _agree(self, mark: Mark | None, present: list[bytes]) -> None:
        for value in present:
            reading = self._read([value])
            if reading.mark is None or mark is None or reading.mark.run != mark.run:
                raise MarkError(
                    f"the call carries {self.header} already ({reading.reason or reading.kind}) but the work at hand is"
                    f" {'normal' if mark is None else f'run {mark.run!r}'}; leave the header out, it is set by itself"
                )

    def _stamp(self, carrier: Carrier, value: str) -> None:
        carrier.put(self.header, value)
        if self._rules.baggage:
            carrier.put(HEADER, mirrored(carrier.values(HEADER), self.header, value))

    def _strip(self, carrier: Carrier) -> None:
        carrier.drop(self.header)
        if self._rules.baggage:
            rest = without(carrier.values(HEADER), self.header)
            if rest:
                carrier.put(HEADER, rest)
            else:
                carrier.drop(HEADER)

    def _tell(self, lane: Lane, *what: str) -> None:
        if self._listeners:
            self._listeners.on(Crossed(lane, *what))


def _parts(values: Sequence[bytes]) -> list[bytes]:
    """Take apart what a wire has joined of several headers; no mark has a comma in it."""
    return [part.strip(b" \t") for value in values for part in value.split(b",")]


def _same(one: Reading, other: Reading) -> bool:
    """Tell whether two marks are the same one, however many hops apart."""
    if one.mark is None or other.mark is None:
        return one.reason == other.reason and one.kind is other.kind
    return replace(one.mark, hop=0) == replace(other.mark, hop=0)


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
