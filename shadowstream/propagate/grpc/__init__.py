"""gRPC, sync and asyncio, for all four kinds of call.

===============  ===================================================================================
``serving``      ``grpc.server(pool, interceptors=[LaneServerInterceptor(propagator)])``
``serving_aio``  ``grpc.aio.server(interceptors=[LaneServerInterceptor(propagator)])``
``calling``      ``channel = carrying(grpc.insecure_channel(target), propagator, target)``
``calling_aio``  ``grpc.aio.insecure_channel(target, interceptors=carrying(propagator, target))``
``metadata``     marks in metadata, the codes of refusals, and the places that targets name
===============  ===================================================================================
"""
