"""The worker: handlers by topic, run in both lanes.

==============  ====================================================
``front``       `Worker`: what users meet
``assembly``    puts one lane together, once
``live``        what goes on beside a lane: it goes by changes of its configuration
``portions``    which part of a limit is this process's, by partitions
``beginning``   where a lane begins in partitions that are given to it
``places``      what brokers say of partitions
``supervisor``  one process per lane under one command
==============  ====================================================
"""

from __future__ import annotations

from shadowstream.kafka.worker.front import Worker

__all__ = ["Worker"]
