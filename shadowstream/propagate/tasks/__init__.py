"""Work that is done later, on a thread, in a process, or by a Celery worker.

``asyncio`` tasks, ``asyncio.to_thread`` and callbacks of the loop carry the lane by themselves: they copy the context.

============  ============================================================================
``carried``   `carried` and `LaneExecutor`: functions on thread and process pools
``celery``    `LaneTask`: Celery tasks, sent and done in the lane of their sender
============  ============================================================================
"""

from shadowstream.propagate.tasks.carried import LaneExecutor, carried

__all__ = ["LaneExecutor", "carried"]
