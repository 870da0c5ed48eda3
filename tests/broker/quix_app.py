"""A Quix Streams application in one lane: handles until it is told to stop, and says what it does.

python -m tests.broker.quix_app CONFIG LANE TOPIC OUT
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from quixstreams import Application

import shadowstream as ss
from shadowstream.errors import ShadowstreamError
from shadowstream.events import Carried, Event
from shadowstream.integrations.quixstreams import QuixLane


class Ear:
    """Says how messages ended."""

    def on(self, event: Event) -> None:
        if isinstance(event, Carried):
            say("outcome", {outcome.value: count for outcome, count in event.outcomes.items()})


def say(what: str, told: Any) -> None:
    sys.stdout.write(json.dumps([what, told]) + "\n")
    sys.stdout.flush()


def main(config: str, lane: str, topic: str, out: str) -> None:
    try:
        ours = QuixLane(ss.load(config), lane, hooks=[Ear()])
    except ShadowstreamError as error:
        say("refused", str(error))
        return
    app = Application(
        **ours.options(
            auto_offset_reset="earliest",
            auto_create_topics=False,
            use_changelog_topics=False,
            consumer_poll_timeout=0.1,
            commit_interval=0.1,
            state_dir=Path(tempfile.mkdtemp()),
            loglevel="WARNING",
        )
    )

    def handle(value: Any) -> Any:
        mark = ss.current()
        say("handled", [value, None if mark is None else mark.run])
        if value == {"fail": True}:
            raise LookupError(value)
        return value

    read, written = app.topic(ours.topic(topic)), app.topic(ours.topic(out))
    ours.sieved(app.dataframe(read)).apply(handle).to_topic(written)
    # The test closes our standard input when it has seen enough.
    threading.Thread(target=lambda: (sys.stdin.read(), app.stop()), daemon=True).start()
    try:
        app.run()
    finally:
        ours.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
