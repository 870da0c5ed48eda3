"""Frameworks that read Kafka by themselves: a lane for each of their processes, gates in front of their handlers.

============  ===========================================================================
``record``    `Record`: a consumed message of any client
``sieve``     `Sieve`: whose message it is, and whether it may go on now
``stamp``     the mark of the work at hand, put on what is sent
``clients``   what everything that reads through aiokafka shares
``lenient``   aiokafka, so that no header's name can stop it
``faust``     `lane_app`: a Faust app in one lane
``aiokafka``  `LaneConsumer` and `LaneProducer`
``faststream``  `FastStreamLane`: a middleware
============  ===========================================================================
"""
