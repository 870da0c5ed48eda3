"""The story of a letter: what its headers tell, whoever wrote them."""

from __future__ import annotations

import pytest
from confluent_kafka import Message as RawMessage
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.events import Listeners
from shadowstream.kafka.labels import Scribe, own_headers
from shadowstream.kafka.labels import Story as Told
from shadowstream.kafka.letters.story import Story, story_of
from shadowstream.kafka.offsets import Piece
from shadowstream.kafka.outlets import Outlets, Senders
from shadowstream.lane import Lane

TRACE = """Traceback (most recent call last):
  File "line.py", line 207, in _untimed
    self._handler(message)
  File "app.py", line 12, in dispatch
    raise LookupError("no such voucher")
LookupError: no such voucher
"""


class Kept:
    """A producer's stand-in that keeps the headers it is given."""

    def __init__(self) -> None:
        self.headers = []

    def produce(self, *_, headers, **__):
        self.headers = headers


def test_what_the_outlets_write_is_read_back() -> None:
    client = Kept()
    raw = RawMessage(topic="t", partition=7, offset=41, key=b"k", value=b"v", headers=[("a", b"1")], timestamp=(1, 99))
    scribe = Scribe(Lane.NORMAL, "g", "s@host/7", "x-shadow")
    outlets = Outlets(Senders(lambda: client), "t", scribe, Listeners())  # type: ignore[arg-type]
    told = Told("voucher.dispatch", Lane.NORMAL).failed(1700.5).failed(1701.0)
    outlets.dead_letter(raw, Piece([raw]), LookupError("no such voucher: é"), told)
    story = story_of(client.headers)
    assert (story.topic, story.partition, story.offset, story.timestamp_ms, story.group) == ("t", 7, 41, 99, "g")
    assert (story.exception, story.message) == ("builtins.LookupError", "no such voucher: é")
    assert (story.command, story.lane, story.attempts) == ("voucher.dispatch", "normal", 2)
    assert story.client == "s@host/7"
    assert story.at == "LookupError: no such voucher: é", "an exception that was never raised has no frame"
    assert own_headers(client.headers, "x-shadow") == [("a", b"1")]


def test_what_is_not_there_reads_as_none() -> None:
    assert story_of([]) == story_of([("trace", b"1"), ("x-shadow", b"1")]) == Story()


def test_attempts_times_command_and_lane_are_read_where_they_are() -> None:
    story = story_of(
        [
            ("shadowstream-attempts", b"3"),
            ("shadowstream-first-failed", b"1700000000123"),
            ("shadowstream-failed-at", b"1700000000456"),
            ("shadowstream-command", b"voucher.dispatch"),
            ("shadowstream-lane", b"shadow"),
            ("shadowstream-replayed", b"2"),
        ]
    )
    assert (story.attempts, story.first_failed_ms, story.failed_at_ms) == (3, 1700000000123, 1700000000456)
    assert (story.command, story.lane, story.replayed) == ("voucher.dispatch", Lane.SHADOW, 2)


@pytest.mark.parametrize("wrong", [b"", b"\0\0\0", b"\0\0\0\0\7", b"7", b"\xff\xff\xff\xff", None])
def test_a_partition_of_another_length_or_below_zero_is_not_guessed(wrong: bytes | None) -> None:
    assert story_of([("kafka_dlt-original-partition", wrong)]).partition is None


@pytest.mark.parametrize("wrong", [b"\0\0\0\7", b"7" * 9, b"\xff" * 8, b""])
@pytest.mark.parametrize("field", ["offset", "timestamp"])
def test_an_offset_or_a_time_of_another_length_or_below_zero_is_not_guessed(field: str, wrong: bytes) -> None:
    assert story_of([(f"kafka_dlt-original-{field}", wrong)]) == Story()


@pytest.mark.parametrize("wrong", [b"-1", b" 3", b"3\n", "\uff13".encode(), b"1e3", b"0x3", b"9" * 30, b"\xff", b""])
def test_a_number_in_another_form_is_not_guessed(wrong: bytes) -> None:
    names = ("attempts", "first-failed", "failed-at", "replayed")
    assert story_of([(f"shadowstream-{name}", wrong) for name in names]) == Story()


@pytest.mark.parametrize("wrong", [b"SHADOW", b"shadow ", b"\xff", b""])
def test_a_lane_in_another_spelling_is_not_guessed(wrong: bytes) -> None:
    assert story_of([("shadowstream-lane", wrong)]).lane is None


def test_text_that_is_not_utf8_is_shown_but_never_looked_up_by() -> None:
    story = story_of([("kafka_dlt-exception-message", b"caf\xe9"), ("kafka_dlt-original-topic", b"caf\xe9")])
    assert story.message == "caf�"
    assert story.topic is None


def test_of_two_headers_of_one_name_the_last_counts() -> None:
    twice = [("kafka_dlt-original-topic", b"first"), ("kafka_dlt-original-topic", b"last")]
    assert story_of(twice).topic == "last"


def test_spring_tells_the_cause_of_what_it_wraps() -> None:
    story = story_of(
        [
            ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
            ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-stacktrace", b"org.springframework.Wrapped: failed\n\tat a.B.c(B.java:1)\n"),
        ]
    )
    assert story.cause == "java.lang.IllegalStateException"
    assert story.at == "org.springframework.Wrapped: failed"


@pytest.mark.parametrize(
    ("trace", "at"),
    [(TRACE, 'File "app.py", line 12, in dispatch'), ("", None), ("Traceback (most recent call last):", None)],
)
def test_of_a_trace_the_line_is_shown_that_says_most(trace: str, at: str | None) -> None:
    assert story_of([("kafka_dlt-exception-stacktrace", trace.encode())]).at == at


def test_a_mark_header_named_like_ours_stays_on() -> None:
    headers = [("shadowstream-mark", b"1;run=r"), ("shadowstream-reason", b"refused"), ("kafka_dlt-mark", b"1")]
    assert own_headers(headers, "shadowstream-mark") == [("shadowstream-mark", b"1;run=r")]
    assert own_headers(headers, "kafka_dlt-mark") == [("kafka_dlt-mark", b"1")]


def test_headers_of_the_message_keep_their_order_and_their_doubles() -> None:
    own = [("trace", b"1"), ("trace", b"2"), ("none", None), ("empty", b""), ("trace", b"1")]
    assert own_headers([own[0], ("kafka_dlt-original-topic", b"t"), *own[1:]], "x-shadow") == own


NAMES = st.sampled_from(
    [f"kafka_dlt-original-{each}" for each in ("topic", "partition", "offset", "timestamp", "consumer-group")]
    + [f"kafka_dlt-exception-{each}" for each in ("fqcn", "cause-fqcn", "message", "stacktrace")]
    + [f"shadowstream-{each}" for each in ("attempts", "lane", "command", "replayed", "reason", "left-out")]
)


@given(st.lists(st.tuples(NAMES | st.text(), st.binary() | st.none())))
def test_no_headers_at_all_can_break_a_story(headers: list[tuple[str, bytes | None]]) -> None:
    story = story_of(headers)
    assert story.partition is None or 0 <= story.partition < 2**31
    assert story.replayed >= 0
    assert story.at is None or story.at.strip()
