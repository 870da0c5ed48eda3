"""What shadowstream costs, measured on a real broker: ``python -m benchmarks`` (``make bench``).

====================  ===============================================================================
``__main__``          the command: run what was asked for, print the table, write the JSON
``rows``              what can be chosen, and who measures it
``throughput``        (a) the worker's normal lane against a raw consume loop; stepping over shadow
``produce``           (b) the marked producer against a raw one with a header of the same size
``latency``           (c) normal latency while a shadow flood meets a stuck shadow handler
``lanes``             the processes of (c) and (i): the worker, the load, the flood, the plain consumer
``gates``             (d) what one gate decision costs
``peers``             (e) (f) (g) other consumers at the same task, each in an environment of its own
``memory``            (h) the normal lane's memory with a shadow backlog ahead
``rebalance``         (i) the gap in normal handling while a member joins and leaves
``repeats``           (j) what is handled again after ``kill -9``
``figures``           the arithmetic: quantiles, ratios, drift, gaps, and the rows of the table
``picture``           the committed ratios as one SVG
``ground`` ``child``  what all stand on: a broker, settings files, child processes that always end
``options``           what the command line asks for
====================  ===============================================================================

Every side of every comparison runs in a process of its own; sides take turns, and each figure carries its own control
(the same side measured twice), because a machine's noise is often larger than the effect.
"""
