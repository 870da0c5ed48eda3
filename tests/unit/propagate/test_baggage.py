"""The mark among baggage, byte for byte."""

from __future__ import annotations

import pytest

from shadowstream.propagate.baggage import MOST_BYTES, MOST_MEMBERS, marks, mirrored, without


def test_as_much_baggage_as_everybody_passes_on_is_read_and_no_more() -> None:
    others = [f"a{number}=1" for number in range(MOST_MEMBERS - 1)]
    assert marks([",".join([*others, "x=1"]).encode()], "x") == [b"1"]
    assert marks([",".join([*others, "b=1", "x=1"]).encode()], "x") == []
    padded = b"x=1,a=" + b"b" * (MOST_BYTES - 5)
    assert marks([padded], "x") == [b"1"]
    assert marks([padded + b"b"], "x") == []


@pytest.mark.parametrize(
    ("header", "found"),
    [
        *[(b" x\t=\t1 ;p", [b"1"]), (b"x=%2C%00", [b",\x00"]), (b"x=1,y=2,x=3", [b"1", b"3"]), (b"x=1=2", [b"1=2"])],
        # Only spaces and tabs may stand around; what looks like one of them is part of the name or the value.
        *[(b"\xa0x=1", []), (b"x\xa0=1", []), (b"x=X1X", [b"X1X"]), (b"Xx=1", []), (b"x=1\xa0", [b"1\xc2\xa0"])],
        *[(b"", []), (b",,", []), (b"x", [b""]), (b"x=", [b""]), (b" \t ", [])],
    ],
)
def test_members_are_told_apart_by_the_recommendations_grammar(header: bytes, found: list[bytes]) -> None:
    assert marks([header], "x") == found


def test_several_headers_are_one_list() -> None:
    assert marks([b"a=1,x=2", b"x=3"], "x") == [b"2", b"3"]
    assert without([b"a=1,x=2", b"X=4,b=3"], "x") == "a=1,X=4,b=3"


def test_what_others_have_there_stays_as_it_is() -> None:
    assert mirrored([b"a=1;p , b=%20", b"Xray=\xa0"], "x", "1;run=a/b") == "a=1;p,b=%20,Xray=\xa0,x=1%3Brun%3Da%2Fb"
    assert without([b"x=1"], "x") == ""
    assert without([b"X,x=1"], "x") == "X"
    assert without([b"\xa0,x=1"], "x") == "\xa0"
