"""The books, against a model that keeps every offset."""

from __future__ import annotations

from confluent_kafka import Message as RawMessage
from hypothesis import given
from hypothesis import strategies as st

from shadowstream.kafka.offsets import Due, Piece, Window


def messages(*offsets: int) -> list[RawMessage]:
    return [RawMessage(topic="t", partition=0, offset=offset, value=b"12345") for offset in offsets]


def opened(window: Window, *offsets: int) -> Piece:
    piece = Piece(messages(*offsets))
    window.opened(piece)
    return piece


def test_nothing_read_means_nothing_to_commit() -> None:
    assert Window().due() is None


def test_the_place_where_a_cursor_begins_is_committed_before_anything_is_read() -> None:
    assert Window(17).due() == Due(17, "", 0)


def test_a_commit_never_passes_an_unfinished_message() -> None:
    window = Window()
    piece = opened(window, 5, 6, 7)
    assert window.committable() == 5
    piece.done = 2
    assert window.committable() == 7
    piece.done = 3
    assert window.committable() == 8


def test_the_slowest_of_several_strands_decides() -> None:
    window = Window()
    slow, fast = opened(window, 1, 3, 5), opened(window, 2, 4, 6)
    fast.done = 3
    assert window.committable() == 1
    slow.done = 2
    assert window.committable() == 5
    slow.done = 3
    assert window.committable() == 7


def test_gaps_in_offsets_stall_nothing() -> None:
    window = Window()
    opened(window, 1, 90, 4000).done = 3
    assert window.committable() == 4001
    opened(window, 10_000).done = 1
    assert window.committable() == 10_001


def test_an_undelivered_output_keeps_its_source_uncommitted() -> None:
    window = Window()
    piece = opened(window, 1, 2, 3)
    piece.done = 1
    held = piece.hold_current()
    assert held is not None
    token, raw = held
    assert raw.offset() == 2
    piece.done = 3
    assert window.committable() == 2
    assert not window.quiet()
    piece.release(token)
    assert window.committable() == 4
    assert window.quiet()


def test_two_outputs_of_one_message_are_awaited_both() -> None:
    window = Window()
    piece = opened(window, 1)
    first, second = piece.hold(piece.messages[0]), piece.hold(piece.messages[0])
    piece.done = 1
    piece.release(first)
    assert window.committable() == 1
    piece.release(second)
    assert window.committable() == 2


def test_a_report_that_comes_twice_is_harmless() -> None:
    window = Window()
    piece = opened(window, 1)
    token = piece.hold(piece.messages[0])
    piece.release(token)
    piece.release(token)
    piece.done = 1
    assert window.committable() == 2


def test_nothing_is_held_when_no_message_is_being_handled() -> None:
    piece = Piece(messages(1))
    piece.done = 1
    assert piece.hold_current() is None


def test_the_same_offset_is_not_committed_twice_unless_the_commit_failed() -> None:
    window = Window()
    opened(window, 1).done = 1
    assert window.due() == Due(2, "", 1)
    window.asked = Due(2, "", 1)
    assert window.due() is None
    window.asked = None
    assert window.due() == Due(2, "", 1)


def test_cancelling_reaches_every_open_piece() -> None:
    window = Window()
    first, second = opened(window, 1), opened(window, 2)
    window.cancel()
    assert first.cancelled
    assert second.cancelled


def test_a_running_handler_keeps_the_window_from_being_quiet() -> None:
    window = Window()
    piece = opened(window, 1)
    assert window.quiet()
    piece.running = True
    assert not window.quiet()


def test_a_piece_knows_its_bytes() -> None:
    assert Piece(messages(1, 2)).size == 10


@given(
    gaps=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    strands=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80),
)
def test_what_may_be_committed_is_the_lowest_unfinished_offset(
    gaps: list[int], strands: int, steps: list[tuple[int, bool]]
) -> None:
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    window = Window()
    pieces = [opened(window, *share) for n in range(strands) if (share := offsets[n::strands])]
    unfinished = set(offsets)
    held: list[tuple[Piece, tuple[int, int]]] = []
    last = 0
    for which, produces in steps:
        piece = pieces[which % len(pieces)]
        if piece.done < len(piece.messages):
            if produces:
                held.append((piece, piece.hold(piece.messages[piece.done])))
            else:
                unfinished.discard(piece.messages[piece.done].offset() or 0)
            piece.done += 1
        elif held:
            owner, token = held.pop()
            owner.release(token)
            unfinished.discard(token[0])
        committable = window.committable()
        assert committable == min(unfinished, default=offsets[-1] + 1)
        assert committable >= last
        last = committable
