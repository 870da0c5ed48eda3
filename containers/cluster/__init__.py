"""Three brokers whose clients go through a proxy that can break each broker's link.

===========  ==============================================================
``links``    `Toxiproxy` and the `Link` to one broker: delay, cut, spoil
``brokers``  `Broker` and `KafkaCluster`: kill, freeze, restart, coordinator
===========  ==============================================================
"""
