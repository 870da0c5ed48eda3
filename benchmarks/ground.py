"""What every benchmark stands on: a broker, settings files, child processes that always end, the machine's facts."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

import shadowstream
from benchmarks.child import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from containers.kafka import KafkaContainer

    AnyProducer = Producer | shadowstream.Producer
    Headers = list[tuple[str, str | bytes | None]]

__all__ = [
    "CLIENT",
    "FOREIGN",
    "Ground",
    "child",
    "end_with_parent",
    "machine",
    "outcome",
    "produced",
    "say",
    "started",
]

ROOT: Final = Path(__file__).resolve().parents[1]
CHILD_S: Final = 180.0
CLIENT: Final = {"enable.idempotence": True, "linger.ms": 5, "queue.buffering.max.messages": 100_000}
"""Producer properties of both sides, so that neither wins by its settings."""
SECRET: Final = {"SHADOW_KEY_1": "only-for-benchmarks-0123456789abcdef"}
PAYLOAD: Final = b"v" * 200
FOREIGN: Final[Headers] = [
    ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("content-type", b"application/json"),
]
"""What other libraries put on a message; neither name is as long as the mark's, as is usual."""


def say(line: str) -> None:
    """Tell the person who waits, on stderr, what is under way."""
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Ground:
    """A broker and a folder for one run."""

    broker: KafkaContainer
    folder: Path

    def load(self, path: Path) -> shadowstream.Settings:
        """Read a settings file of ours."""
        return shadowstream.load(path, environ=SECRET, strict=True)

    def topic(self, name: str, config: dict[str, str] | None = None, *, partitions: int = 1) -> str:
        """Create a topic."""
        self.broker.create_topics({name: partitions}, config)
        return name

    def drop(self, topic: str) -> None:
        """Delete a topic, so that its log does not fill the disk."""
        for deleted in self.broker.admin.delete_topics([topic]).values():
            deleted.result(timeout=15)

    def settings(
        self, group: str, topic: str, rule: dict[str, object] | None = None, **sections: dict[str, object]
    ) -> Path:
        """Write a settings file for one group on one topic, with signed marks; JSON is YAML too.

        ``rule`` is the topic's own, each of ``sections`` goes over the section of its name.
        """
        path = self.folder / f"{group}.yaml"
        document: dict[str, Any] = {
            "service": "benchmark",
            "mark": {"trust": "signed", "keys": [{"id": "k1", "secret_env": "SHADOW_KEY_1"}]},
            "kafka": {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": group,
                "client.id": "benchmark",
                **CLIENT,
            },
            "topics": {topic: rule or {}},
            "worker": {"drain": "1s"},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def count(self, topic: str) -> int:
        """Return how many messages the topic holds, as the broker says."""
        onlooker = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "onlooker"})
        try:
            low, high = onlooker.get_watermark_offsets(TopicPartition(topic, 0), timeout=15)
        finally:
            onlooker.close()
        return int(high - low)


def produced(client: AnyProducer, topic: str, headers: Headers | None, count: int) -> None:
    """Produce so many messages of 200 bytes the way every side here does, and wait for the last delivery.

    It polls once in a thousand messages and whenever the queue is full.
    """
    produce, poll = client.produce, client.poll
    for number in range(count):
        if number % 1000 == 0:
            poll(0)
        try:
            produce(topic, PAYLOAD, headers=headers)
        except BufferError:
            _produced_later(client, topic, headers)
    if left := client.flush(60):
        raise RuntimeError(f"{left} messages were not delivered within 60 s")


def _produced_later(client: AnyProducer, topic: str, headers: Headers | None) -> None:
    while True:
        client.poll(0.05)
        with suppress(BufferError):
            client.produce(topic, PAYLOAD, headers=headers)
            return


@contextmanager
def started(
    module: str, *arguments: object, capture: bool = False, python: str | Path = sys.executable
) -> Iterator[subprocess.Popen[str]]:
    """Run a module in a process of its own; it and its children have ended when the block is left, however that is."""
    process = subprocess.Popen(
        [str(python), "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | SECRET,
        stdout=subprocess.PIPE if capture else sys.stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _ended(process)


def _ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # What it started and left behind is in its session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a captured child and return the JSON object it printed.

    Raises:
        RuntimeError: it failed, or printed nothing.
    """
    text, _ = process.communicate(timeout=CHILD_S)
    if process.returncode or not text.strip():
        raise RuntimeError(f"{process.args!r} ended with code {process.returncode}; its reason stands above")
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def child(module: str, *arguments: object, python: str | Path = sys.executable) -> dict[str, Any]:
    """Run a module in a fresh process to its end and return what it measured."""
    with started(module, *arguments, capture=True, python=python) as process:
        return outcome(process)


def machine(broker_image: str | None) -> dict[str, object]:
    """Return what the figures were measured on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(terse=True),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "confluent_kafka": confluent_kafka.version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "broker": broker_image,
        "shadowstream": shadowstream.__version__,
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
