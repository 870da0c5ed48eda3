"""The service that chaos breaks: ``shadowstream worker tests.chaos.app:worker``, in the folder of a run.

A flaw can be built in by CHAOS_FLAW, to see the oracle find it: ``drop`` forgets a message now and then, ``early``
returns before the work is done, so that its offset is committed too early.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import threading
import time
from pathlib import Path

import shadowstream as ss
from shadowstream.events import Carried, CommitFailed, Event, Rebalanced
from tests.chaos.records import JOURNALS, RELEASED, Journal, Kind, Order, order_of

FLAW = os.environ.get("CHAOS_FLAW", "")
RUN = int(os.environ.get("CHAOS_RUN", "0"))
"""The process that started this command; not the parent of a lane."""
DROPPED_OF, DELAYED_OF, DELAY_S = 1000, 50, 3.0
SLOW_S = 0.05
LOOK_S = 0.1

journal = Journal(Path(JOURNALS))
tried: set[int] = set()
atexit.register(journal.closed)
# Whoever waits for a lane to end can ask it what it is doing.
faulthandler.register(signal.SIGUSR1)


class Clerk:
    """Writes the worker's own facts into the journal."""

    def on(self, event: Event) -> None:
        """Write one down."""
        lane = event.lane[0]
        if isinstance(event, Carried):
            for outcome, count in event.outcomes.items():
                journal.tell("count", lane, outcome.value, count)
        elif isinstance(event, Rebalanced):
            journal.tell("rebalance", lane, event.change)
        elif isinstance(event, CommitFailed):
            journal.tell("commit-failed", lane, event.error)


settings = ss.load("shadowstream.yaml")
worker = ss.Worker(settings, hooks=lambda _: [Clerk()])


def handle(message: ss.Message) -> None:
    """Do what the message asks, and write it down once it is done."""
    order = order_of(message.value())
    if FLAW == "drop" and order.number % DROPPED_OF == 0:
        return
    if FLAW == "early" and order.number % DELAYED_OF == 0:
        threading.Timer(DELAY_S, note, ("handled", message, order)).start()
        return
    treat(message, order)
    note("handled", message, order)


def note(what: str, message: ss.Message, order: Order) -> None:
    """Write down what happened to a message."""
    # What the message says of itself goes by the value; the lane is what the worker made of it.
    place = message.topic() or "", message.partition() or 0, message.offset() or 0
    journal.note(what, message.lane[0], place, order.number)


def treat(message: ss.Message, order: Order) -> None:
    """Be slow, raise or hang as the message asks."""
    match order.kind:
        case Kind.SLOW:
            time.sleep(SLOW_S)
        case Kind.FLAKY if order.number not in tried:
            tried.add(order.number)
            raise RuntimeError("once")
        case Kind.POISON:
            note("raised", message, order)
            raise (ValueError, SystemExit, MemoryError, StopIteration)[order.number % 4]("always")
        case Kind.HANG:
            hang(order.number)


def hang(number: int) -> None:
    """Never return in the first process that tries; the next one goes on."""
    try:
        mine = os.open(f"hang-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.write(mine, f"{os.getpid()}\n".encode())
    while not Path(RELEASED).exists():
        time.sleep(LOOK_S)


def watch_the_run() -> None:
    """End where the run that started this command is gone: the lanes see that and end by themselves."""
    while os.getppid() == RUN:
        time.sleep(LOOK_S)
    os._exit(1)


if os.getppid() == RUN:
    threading.Thread(target=watch_the_run, daemon=True).start()
for topic in settings.normal.topics:
    worker.handles(topic)(handle)
