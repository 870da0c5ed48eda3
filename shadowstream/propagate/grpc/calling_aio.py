"""The interceptors of an asyncio channel, one for each kind of call: gRPC takes only one kind from each object.

A request stream is asked for its parts by a task that is made within the call, and so in the caller's lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc.aio

from shadowstream.propagate.grpc.metadata import Stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shadowstream.propagate.propagator import Propagator

    Details = grpc.aio.ClientCallDetails
    Continuation = Callable[[Details, Any], Awaitable[Any]]

__all__ = ["carrying"]


def carrying(propagator: Propagator, target: str) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for a channel to ``target`` that carries the lane of the work at hand."""
    stamp = Stamp(propagator, target)
    return [kind(stamp) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]


class _Stamping:
    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp

    async def call(self, continuation: Continuation, client_call_details: Details, request: Any) -> Any:  # noqa: ANN401
        """Make one call, whatever it sends: a request or a stream of them."""
        metadata = grpc.aio.Metadata(*self._stamp.on(client_call_details.metadata))
        details = cast("Any", client_call_details)._replace(metadata=metadata)
        return await continuation(details, request)


class _UnaryUnary(_Stamping, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _Stamping.call


class _UnaryStream(_Stamping, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _Stamping.call


class _StreamUnary(_Stamping, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = _Stamping.call  # type: ignore[assignment] # declared for streams only


class _StreamStream(_Stamping, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _Stamping.call  # type: ignore[assignment]
