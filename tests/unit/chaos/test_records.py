"""What the load and the handlers of chaos write down comes back as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.chaos.records import Journal, Kind, Order, order_of, read

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.chaos.records import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(1000):
    journal.note("handled", "n", ("in", 0, number), number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_message_says_its_lane_its_number_and_its_kind_whatever_is_padded_behind() -> None:
    order = Order("s", 17, Kind.FAT)

    assert order_of(order.written()) == order_of(order.written(100)) == order
    assert len(order.written(100)) == len(order.written()) + 100


def test_a_journal_is_read_back_with_its_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.note("handled", "s", ("in", 3, 40), 17)
    journal.tell("count", "s", "handled", 1)
    still_open = read(tmp_path / "journal")
    journal.closed()
    found = read(tmp_path / "journal")

    [one], [told] = found.entries, found.told
    assert (one.what, one.lane, one.topic, one.partition, one.offset, one.number) == ("handled", "s", "in", 3, 40, 17)
    assert (told.what, told.lane, told.name, told.count) == ("count", "s", "handled", 1)
    assert one.process == told.process
    assert (still_open.closed, found.closed) == (set(), {one.process})


def test_a_line_that_is_on_its_way_is_not_read_yet(tmp_path: Path) -> None:
    (tmp_path / "1-1").write_text("m handled n in 0 0 0 5\nm handled n in 0 1")

    assert [each.number for each in read(tmp_path).entries] == [0]


def test_a_killed_process_loses_nothing_that_it_wrote_down(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False, timeout=60)

    assert done.returncode == -signal.SIGKILL
    assert [each.number for each in read(tmp_path).entries] == list(range(1000))
