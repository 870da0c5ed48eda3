"""The interceptor of an asyncio server.

A handler stays what it is, sync or async: the server runs a sync one on a thread.
"""

from __future__ import annotations

from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from shadowstream.lane import entered
from shadowstream.propagate.grpc.metadata import arrived, code
from shadowstream.propagate.grpc.serving import behavior_of, in_lane, like
from shadowstream.propagate.refusals import told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shadowstream.lane import Mark
    from shadowstream.propagate.grpc.serving import Behavior, Handler
    from shadowstream.propagate.propagator import Propagator

__all__ = ["LaneServerInterceptor"]


class LaneServerInterceptor(grpc.aio.ServerInterceptor):
    """Restores the lane of each call."""

    def __init__(self, propagator: Propagator) -> None:
        self._propagator = propagator

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return what handles a call, in its lane."""
        handler = await continuation(handler_call_details)
        arrival = arrived(self._propagator, handler_call_details) if handler is not None else None
        if handler is None or arrival is None:
            return handler
        if arrival.refused:
            return like(handler, _refusing(arrival.refused))
        inner = behavior_of(handler)
        if isasyncgenfunction(inner):
            return like(handler, _streaming(arrival.mark, inner))
        if iscoroutinefunction(inner):
            return like(handler, _answering(arrival.mark, inner))
        return in_lane(handler, arrival.mark)


def _answering(mark: Mark | None, inner: Behavior) -> Behavior:
    async def answered(request: Any, context: Any) -> Any:  # noqa: ANN401 - whatever the service speaks
        with entered(mark):
            return await inner(request, context)

    return answered


def _streaming(mark: Mark | None, inner: Behavior) -> Behavior:
    async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - whatever the service speaks
        # Never left: each call is a task of its own, and a stream that is given up may be closed from another one.
        entered(mark).__enter__()
        async for part in inner(request, context):
            yield part

    return streamed


def _refusing(reason: str) -> Behavior:
    async def refused(_request: Any, context: Any) -> None:  # noqa: ANN401 - whatever the service speaks
        await context.abort(code(reason), told(reason))

    return refused
