"""The interceptor of a sync channel: calls carry the lane of the work at hand.

It is told the target, because a channel does not tell its interceptors where it leads. Traps:

* gRPC asks for the parts of a request stream on a thread of its own: they are made in the caller's lane
  (``test_the_parts_of_a_request_stream_are_made_in_the_callers_lane``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from shadowstream.lane import mark_here
from shadowstream.propagate.grpc.metadata import Stamp
from shadowstream.propagate.held import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shadowstream.propagate.propagator import Propagator

    Continuation = Callable[[grpc.ClientCallDetails, Any], Any]

__all__ = ["LaneClientInterceptor", "carrying"]


def carrying(channel: grpc.Channel, propagator: Propagator, target: str) -> grpc.Channel:
    """Return a channel to ``target`` that carries the lane of the work at hand."""
    return grpc.intercept_channel(channel, LaneClientInterceptor(propagator, target))


@dataclass(frozen=True, slots=True)
class _Details(grpc.ClientCallDetails):
    """A call, as gRPC's interceptors hand it on."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, Any], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class LaneClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Stamps each call of one channel."""

    def __init__(self, propagator: Propagator, target: str) -> None:
        self._stamp = Stamp(propagator, target)

    def intercept_unary_unary(
        self,
        continuation: Continuation,
        client_call_details: grpc.ClientCallDetails,
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - gRPC's signatures
        """Make a call with one request."""
        return continuation(self._stamped(client_call_details), request)

    def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: grpc.ClientCallDetails, request_iterator: Iterable[Any]
    ) -> Any:  # noqa: ANN401 - gRPC's signatures
        """Make a call with a stream of requests."""
        return continuation(self._stamped(client_call_details), _kept(request_iterator))

    intercept_unary_stream = intercept_unary_unary
    intercept_stream_stream = intercept_stream_unary

    def _stamped(self, details: grpc.ClientCallDetails) -> _Details:
        return _Details(
            details.method,
            details.timeout,
            tuple(self._stamp.on(details.metadata)),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )


def _kept(requests: Iterable[Any]) -> Iterable[Any]:
    mark = mark_here()
    return requests if mark is None else Held(mark, lambda: requests)
