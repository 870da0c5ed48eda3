"""The interceptor of a sync server: a call is handled, and its stream produced, in the lane of its mark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from shadowstream.lane import entered
from shadowstream.propagate.grpc.metadata import arrived, code
from shadowstream.propagate.held import Held
from shadowstream.propagate.refusals import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from shadowstream.lane import Mark
    from shadowstream.propagate.propagator import Propagator

    Handler = grpc.RpcMethodHandler[Any, Any]
    Behavior = Callable[[Any, Any], Any]

__all__ = ["LaneServerInterceptor", "behavior_of", "in_lane", "like"]


class LaneServerInterceptor(grpc.ServerInterceptor):
    """Restores the lane of each call."""

    def __init__(self, propagator: Propagator) -> None:
        self._propagator = propagator

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return what handles a call, in its lane."""
        handler = continuation(handler_call_details)
        arrival = arrived(self._propagator, handler_call_details) if handler is not None else None
        if handler is None or arrival is None:
            return handler
        if arrival.refused:
            return like(handler, _refusing(arrival.refused))
        return in_lane(handler, arrival.mark)


def in_lane(handler: Handler, mark: Mark | None) -> Handler:
    """Return a sync handler that works in the lane of a mark, to the last part of its stream."""
    wrap = _streaming if handler.response_streaming else _answering
    return like(handler, wrap(mark, behavior_of(handler)))


def behavior_of(handler: Handler) -> Behavior:
    """Return the function behind a handler, whichever of the four kinds it is."""
    kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    behavior: Behavior = next(each for each in kinds if each is not None)
    return behavior


def like(handler: Handler, behavior: Behavior) -> Handler:
    """Return a handler of the same kind with another function behind it."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _answering(mark: Mark | None, inner: Behavior) -> Behavior:
    def answered(request: Any, context: Any) -> Any:  # noqa: ANN401 - whatever the service speaks
        with entered(mark):
            return inner(request, context)

    return answered


def _streaming(mark: Mark | None, inner: Behavior) -> Behavior:
    def streamed(request: Any, context: Any) -> Held[Any]:  # noqa: ANN401 - whatever the service speaks
        return Held(mark, lambda: inner(request, context))

    return streamed


def _refusing(reason: str) -> Behavior:
    def refused(_request: Any, context: Any) -> None:  # noqa: ANN401 - whatever the service speaks
        context.abort(code(reason), told(reason))

    return refused
