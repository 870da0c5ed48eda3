"""Other consumers at the same task, each in an environment of its own.

==================  =================================================================================
``task``            what a program is told and what it reports; standard library only
``environments``    makes a peer's environment from its lock in ``locks/``, once
``sides``           who takes part, in which environment, and which work each can do
``contest``         (e) (f) (g) the rows: drain, one millisecond of I/O, 50 us of CPU for each message
``raw`` ``ours``    our own environment: the client alone, and `shadowstream.Worker`
``aiokafka`` ...    one program for each peer: `python -m benchmarks.peers.NAME '{...}'`
==================  =================================================================================

A program consumes a topic from its beginning in a new group, lets some messages pass as warm-up, and prints one line:
how many messages it counted, the seconds from the first of them to the last, and the CPU seconds in between. It is
written as the peer's own documentation does it, in its fastest setting that still commits after handling; where it
does otherwise a comment says so. Peers with librdkafka below get ``fetch.queue.backoff.ms=10``, as ours does.
"""
