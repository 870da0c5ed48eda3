"""The container ground: a daemon, images, a Kafka broker and a Redis server for tests and benchmarks."""
