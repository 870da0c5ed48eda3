"""The worker: handlers by topic, run in both lanes.

==============  ====================================================
``front``       `Worker`: what users meet
``assembly``    puts one lane together, once
``strands``     the threads that run handlers
``supervisor``  one process per lane under one command
==============  ====================================================
"""

from __future__ import annotations

from shadowstream.kafka.worker.front import Worker

__all__ = ["Worker"]
