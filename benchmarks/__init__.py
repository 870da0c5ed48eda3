"""What shadowstream costs, measured against the raw client on a real broker: ``python -m benchmarks`` (``make bench``).

====================  ===============================================================================
``__main__``          the command: run what was asked for, print the table, write the JSON
``throughput``        (a) the worker's normal lane against a raw consume loop
``produce``           (b) the marked producer against a raw one with a header of the same size
``latency``           (c) normal latency while a shadow flood meets a stuck shadow handler
``lanes``             the processes of (c): the worker, the load, the flood, the plain consumer
``gates``             (d) what one gate decision costs
``figures``           the arithmetic: quantiles, paired ratios, drift, and the rows of the table
``ground``            what all stand on: a broker, settings files, child processes that always end
====================  ===============================================================================

Every side of every comparison runs in a process of its own; sides take turns, and each figure carries its own control
(the same side measured twice), because a machine's noise is often larger than the effect.
"""
