"""Frameworks that read Kafka by themselves: a lane for each of their processes, gates in front of their handlers.

=================  ==================================================================
``faust``          `lane_app`: a Faust app in one lane
``faststream``     `FastStreamLane`: a middleware
``aiokafka``       `LaneConsumer` and `LaneProducer`
``quixstreams``    `QuixLane`: a filter in front of a dataframe
``opentelemetry``  lane and run on spans, spans for handlers
``gatehouse/``     what stands in front of all of them: whose message it is, the gate
=================  ==================================================================
"""
