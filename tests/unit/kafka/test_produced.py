"""What shadow produces is counted by topic, for whoever asks how wide the chain fans out."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import shadowstream as ss
from shadowstream.events import Event, Produced
from tests.signals import settings_of


class Client:
    """A producer's client that takes everything."""

    def produce(self, *_: Any, **__: Any) -> None:
        pass

    def flush(self, _timeout: float) -> int:
        return 0


class Ear:
    def __init__(self) -> None:
        self.counts = Counter[str]()

    def on(self, event: Event) -> None:
        assert isinstance(event, Produced)
        self.counts.update(event.topics)


def test_what_shadow_produces_is_counted_where_it_goes_and_normal_is_not_counted(tmp_path) -> None:
    ear = Ear()
    settings = settings_of(tmp_path, topics={"same": {}, "moved": {"route": "topic"}})
    producer = ss.Producer(settings, hooks=[ear], client_of=lambda _: Client())

    def produce() -> None:
        with ss.entered(ss.Mark(run="r1")):
            for _ in range(2000):
                producer.produce("same", b"v")
                producer.produce("moved", b"v")
        producer.produce("same", b"normal")

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.flush()
    assert ear.counts == {"same": 8000, "shadow.moved": 8000}
