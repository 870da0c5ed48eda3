"""What is missing, broken or raised: the lane says so, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from containers.owned import free_port
from shadowstream.events import ShadowOff
from shadowstream.lane import Lane
from tests.broker.rig import MARKED, eventually, headers_of, text_of
from tests.broker.service import Service
from tests.broker.wire import produce

if TYPE_CHECKING:
    from collections.abc import Iterator

    import shadowstream as ss
    from tests.broker.rig import Rig

pytest_plugins = ["tests.broker.rig"]

APP = """
@worker.handles("{topic}")
def handler(message):
    note(message)
"""
NO_SHADOW_SINK = {"data": {"redis": {"url": "redis://localhost:1/0"}}}


def test_a_topic_that_does_not_exist_is_said_with_the_cure_and_read_once_it_does(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    topic, missing = rig.topic(), f"{rig.group}-missing"
    worker = rig.worker(
        rig.settings({topic: {}, missing: {}}, kafka={"topic.metadata.refresh.interval.ms": 1000}), "normal"
    )
    handled: list[str] = []
    for each in (topic, missing):
        worker.handles(each)(lambda message: handled.append(text_of(message)))
    rig.send(topic, ["n0"])

    with worker:
        eventually(lambda: handled == ["n0"], "the topic that exists handled")
        eventually(lambda: missing in caplog.text, "a line about the missing topic")
        (line,) = [each for each in caplog.messages if missing in each]
        rig.kafka.create_topics({missing: 1})
        rig.send(missing, ["n1"])
        eventually(lambda: handled == ["n0", "n1"], "the topic read once it exists")

    assert "create the topic" in line
    assert "UNKNOWN_TOPIC_OR_PART" in line


class Gateway:
    """A port that refuses connections, then slams every one it takes, then leads to the broker."""

    def __init__(self, target: int) -> None:
        self.port, self.slammed = free_port(), 0
        self._target, self._leads, self._server = target, False, socket.socket()

    def opened(self) -> None:
        """Take connections from now on."""
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", self.port))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def led(self) -> None:
        """Lead to the broker from now on."""
        self._leads = True

    def closed(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if not self._leads:
                    near.close()
                    self.slammed += 1
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=pumped, args=(one, other), daemon=True).start()


@pytest.fixture
def gateway(rig: Rig) -> Iterator[Gateway]:
    """Give a way to the broker that is shut at first."""
    shut = Gateway(rig.kafka.port)
    yield shut
    shut.closed()


def pumped(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until either side is closed."""
    with contextlib.suppress(OSError), source, target:
        while data := source.recv(65536):
            target.sendall(data)


def test_without_a_broker_at_the_start_both_lanes_say_so_and_begin_when_one_is_there(
    rig: Rig, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    rig.send(topic, ["s0"], MARKED)
    kafka = {"bootstrap.servers": f"127.0.0.1:{gateway.port}", "log_level": 0, "reconnect.backoff.max.ms": 200}
    worker = rig.worker(rig.settings({topic: {}}, kafka=kafka))
    handled: list[str] = []
    worker.handles(topic)(lambda message: handled.append(text_of(message)))

    with worker:
        eventually(lambda: all(said_of(lane, caplog) for lane in Lane), "a line with the cure in each lane")
        gateway.opened()
        eventually(lambda: gateway.slammed >= 40, "forty attempts")
        assert handled == []
        gateway.led()
        eventually(lambda: sorted(handled) == ["n0", "s0"], "both lanes at work")

    for lane in Lane:
        assert len(said_of(lane, caplog)) < 10, "not with every attempt"


def said_of(lane: Lane, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that tell a lane's trouble and its cure."""
    return [line for line in caplog.messages if f"lane={lane}" in line and "check `kafka: bootstrap.servers`" in line]


def test_fail_fast_exits_with_3_and_one_clear_line_when_a_topic_is_missing(rig: Rig) -> None:
    topic = rig.topics("in", aside=False)[0]
    with Service(rig, APP.format(topic=topic), {topic: {}}) as service:
        service.kill()
        service.log_path.unlink()
        assert service.start("--fail-fast").stopped() == 3

    (line,) = service.log().splitlines()
    for name in (f"{topic}.dlq", f"{topic}.quarantine", f"{topic}.shadow.dlq", f"{topic}.shadow.parked"):
        assert name in line


def test_fail_fast_exits_with_3_and_one_clear_line_when_no_broker_answers(rig: Rig) -> None:
    service = Service(rig, APP.format(topic="t"), {"t": {}}, kafka={"bootstrap.servers": f"127.0.0.1:{free_port()}"})
    try:
        assert service.start("--fail-fast").stopped() == 3
    finally:
        service.kill()

    (line,) = service.log().splitlines()
    assert "no broker answered within" in line
    assert "bootstrap.servers" in line


RAISED = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), StopIteration(), asyncio.CancelledError()]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_a_handler_raises_is_dead_lettered_and_both_lanes_go_on(rig: Rig, kind: str) -> None:
    topic = rig.topic()
    rig.begin(topic)
    worker = rig.worker(rig.settings({topic: {"retries": 0}}))
    handled: dict[str, list[str]] = {"normal": [], "shadow": []}

    def handler(message: ss.Message) -> None:
        handled[message.lane].append(text_of(message))
        if (number := int(text_of(message))) < len(RAISED):
            raise RAISED[number]

    async def awaited(message: ss.Message) -> None:
        await asyncio.sleep(0)
        handler(message)

    chosen: Any = handler if kind == "sync" else awaited
    worker.handles(topic)(chosen)
    values = [str(number) for number in range(len(RAISED) + 2)]
    rig.send(topic, values)
    rig.send(topic, values, MARKED)

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")

    assert handled == {"normal": values, "shadow": values}
    for lane, place in ((Lane.NORMAL, f"{topic}.dlq"), (Lane.SHADOW, f"{topic}.shadow.dlq")):
        assert rig.heard.outcomes(lane) == {"failed": len(RAISED), "handled": 2}
        assert rig.values(place) == values[: len(RAISED)]


def test_a_header_key_that_is_not_utf8_is_quarantined_and_the_log_goes_on(rig: Rig) -> None:
    topic = rig.topic()
    rig.begin(topic)
    # First what warms the code up: the client's error is only seen by calls that the interpreter has not specialised.
    rig.send(topic, ["plain"] * 40, [("trace", b"1")])
    for _ in range(3):
        produce(rig.bootstrap, topic, b"odd", [(b"x-shadow", b"1"), (b"\xff\xfe", b"1")])
    produce(rig.bootstrap, topic, b"marked", [(b"x-shadow", b"1")])
    worker = rig.worker(rig.settings({topic: {}}))
    handled: list[tuple[str, str]] = []
    worker.handles(topic)(lambda message: handled.append((message.lane, text_of(message))))

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")

    assert Counter(handled) == {("normal", "plain"): 40, ("shadow", "marked"): 1}
    for copy in rig.read(f"{topic}.quarantine"):
        assert copy.value() == b"odd"
        assert headers_of(copy)[-1] == ("shadowstream-reason", b"unreadable")
    assert rig.heard.outcomes(Lane.NORMAL) == {"handled": 40, "quarantined": 3}
    assert rig.ends(f"{topic}.quarantine") == {0: 3}


STRANGE_TIMES = (-1, -5, 0, 2**63 - 1)


@pytest.mark.parametrize(
    "config", [{"message.timestamp.after.max.ms": str(2**63 - 1)}, {"message.timestamp.type": "LogAppendTime"}]
)
def test_a_message_without_key_or_value_or_of_a_strange_time_is_handled_in_its_lane(
    rig: Rig, config: dict[str, str]
) -> None:
    (topic,) = rig.topics("in", config=config)
    rig.begin(topic)
    for headers in ([], MARKED):
        rig.producer.produce(topic, None, headers=headers)
        rig.producer.produce(topic, b"", b"", headers=headers)
        raw = [(name.encode(), value) for name, value in headers]
        for each in STRANGE_TIMES:
            produce(rig.bootstrap, topic, str(each).encode(), raw, each)
    assert rig.producer.flush(10) == 0
    worker = rig.worker(rig.settings({topic: {}}))
    handled: list[tuple[str, bytes | None, bytes | None]] = []
    worker.handles(topic)(lambda message: handled.append((message.lane, message.key(), message.value())))

    with worker:
        eventually(lambda: rig.both_caught_up(topic), "both lanes at the end")

    expected = [(None, None), (b"", b""), *((None, str(each).encode()) for each in STRANGE_TIMES)]
    assert Counter(handled) == Counter((lane, *each) for lane in Lane for each in expected)


def test_with_shadows_configuration_broken_normal_handles_everything_and_shadow_is_off_loudly(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0", "n1"])
    rig.send(topic, ["s0"], MARKED)
    worker = rig.worker(rig.settings({topic: {}}, **NO_SHADOW_SINK))
    handled: list[str] = []
    worker.handles(topic)(lambda message: handled.append(text_of(message)))

    with caplog.at_level(logging.INFO), worker:
        eventually(lambda: rig.caught_up(Lane.NORMAL, topic), "normal at the end")

    assert handled == ["n0", "n1"]
    assert rig.committed(rig.group_of(Lane.SHADOW), topic) == {0: 0}
    (line,) = [record for record in caplog.records if "shadow_off" in record.getMessage()]
    assert line.levelno == logging.ERROR
    assert "redis" in line.getMessage()
    (event,) = [each for each in rig.heard.events if isinstance(each, ShadowOff)]
    assert "redis" in event.reasons[0]


def test_a_property_that_the_client_refuses_ends_the_command_with_2_and_one_clear_line(rig: Rig) -> None:
    service = Service(rig, APP.format(topic="t"), {"t": {}}, kafka={"no.such.property": 1})
    try:
        assert service.start().stopped() == 2
    finally:
        service.kill()

    (line,) = service.log().splitlines()
    assert "no.such.property" in line
    assert "correct it under kafka" in line


@pytest.mark.parametrize("wrong", [NO_SHADOW_SINK, {"shadow.kafka": {"linger.ms": "soon"}}], ids=["sink", "property"])
def test_the_command_runs_normal_alone_when_shadow_is_wrongly_configured_unless_it_is_strict(
    rig: Rig, wrong: dict[str, Any]
) -> None:
    topic = rig.topic()
    rig.begin(topic)
    rig.send(topic, ["n0"])
    with Service(rig, APP.format(topic=topic), {topic: {}}, **wrong) as service:
        eventually(lambda: service.done(Lane.NORMAL) == {"n0": 1}, "normal at work")
        service.signal()
        assert service.stopped() == 0
        assert "shadow_off" in service.log()

        assert service.start("--strict").stopped() == 2
        assert service.log().splitlines()[-1].startswith("shadowstream: ")
