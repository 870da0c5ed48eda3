"""A real Kafka broker and a real Redis server for these tests, one of each per run.

The images are made sure of right after collection, outside any test: a first run builds them for two minutes, which no
test's timeout should count and which nobody should wait for in silence. Tests share the servers and take names of their
own from `topics` and `unique`; a test that kills or pauses a broker takes `own_kafka`.
"""

from __future__ import annotations

import itertools
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from containers.host import ContainerGroundError, say, step
from containers.images import ensure_kafka_image, ensure_redis_image
from containers.kafka import KafkaContainer
from containers.redis import RedisContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HERE = Path(__file__).parent
NEEDS = {
    "kafka": ensure_kafka_image,
    "own_kafka": ensure_kafka_image,
    "guarded_kafka": ensure_kafka_image,
    "redis": ensure_redis_image,
    "own_redis": ensure_redis_image,
    "fleet_redis": ensure_redis_image,
}


class Topics(Protocol):
    """Creates fresh topics: short name in, the name on the broker out."""

    def __call__(self, *names: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> dict[str, str]: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.broker)


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = [item for item in session.items if isinstance(item, pytest.Function) and item.path.is_relative_to(HERE)]
    if session.config.option.collectonly or not ours:
        return
    asked = {NEEDS[name] for item in ours for name in item.fixturenames if name in NEEDS}
    with spoken(session.config):
        try:
            for ensure in asked:
                ensure()
        except ContainerGroundError as failure:
            # The tests that need no container still run; the fixtures below fail the others, with this reason.
            say(str(failure))


@contextmanager
def spoken(config: pytest.Config) -> Iterator[None]:
    """Let what is said on stderr through to the terminal."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[KafkaContainer]:
    """The broker of this run, shared: never kill or pause it."""
    broker = KafkaContainer()
    try:
        with spoken(pytestconfig), step("starting the Kafka broker of this run"):
            broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def guarded_kafka() -> Iterator[KafkaContainer]:
    """A broker that asks who may do what, where anybody has said so."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with KafkaContainer(settings=settings) as broker:
        yield broker


@pytest.fixture
def own_kafka() -> Iterator[KafkaContainer]:
    """A broker for one test alone, which may kill, pause and restart it."""
    with KafkaContainer() as broker:
        yield broker


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisContainer]:
    """The Redis server of this run, shared: take keys under a `unique` prefix."""
    with RedisContainer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisContainer]:
    """A Redis server for one test alone, which may kill, pause and restart it."""
    with RedisContainer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis: RedisContainer) -> str:
    """The address of the shared Redis server."""
    return redis.url


@pytest.fixture(scope="session")
def unique() -> Callable[[str], str]:
    """Make names that no other test and no other run has: `unique("group")` is `group-3f2a9c-1`."""
    run, counter = uuid.uuid4().hex[:6], itertools.count(1)

    def name(stem: str = "name") -> str:
        return f"{stem}-{run}-{next(counter)}"

    return name


@pytest.fixture
def topics(kafka: KafkaContainer, unique: Callable[[str], str]) -> Topics:
    """Create fresh topics: `topics("in", "out", partitions=2)["in"]` is the name on the shared broker."""

    def create(*names: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> dict[str, str]:
        fresh = {name: unique(name) for name in names}
        kafka.create_topics(dict.fromkeys(fresh.values(), partitions), config)
        return fresh

    return create
