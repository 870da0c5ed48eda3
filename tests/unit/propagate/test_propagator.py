"""What a request that came is, and what a call that leaves carries."""

from __future__ import annotations

import time

import pytest

import shadowstream as ss
from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.lane import Mark
from tests.signals import RUN, signed

OPEN = {"trust": "open"}


def arrived(propagator, *values: str):
    return propagator.arrived([value.encode() for value in values], "http")


# In


def test_what_carries_no_mark_is_normal_and_nobody_is_told(made, ear) -> None:
    assert arrived(made()) == (arrival := arrived(made()))
    assert arrival.mark is None
    assert not arrival.refused
    assert ear.told == []


def test_a_signed_mark_is_the_lane_of_its_request(made, ear) -> None:
    arrival = arrived(made(), signed(hop=3))
    assert arrival.mark is not None
    assert (arrival.mark.run, arrival.mark.hop, arrival.refused) == (RUN, 4, "")
    assert ear.told == ["shadow in carried"]


def test_an_older_key_still_verifies_and_an_unknown_one_does_not(made) -> None:
    keys = [{"id": "k1", "secret_env": "SHADOW_KEY_1"}, {"id": "k0", "secret_env": "SHADOW_KEY_0"}]
    propagator = made(mark={"trust": "signed", "keys": keys})
    assert not arrived(propagator, signed(key_id="k0", secret="an older one")).refused
    assert arrived(propagator, signed(key_id="k2", secret="an older one")).refused == "unknown_key"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["1"], "unsigned"),
        (["1;run=a"], "unsigned"),
        ([""], "empty"),
        (["yes"], "malformed"),
        (["v9;run=a"], "unknown_version"),
        (["1;run=a", "1;run=b"], "conflict"),
        (["1;run=a, 1;run=b"], "conflict"),
        ([signed(secret="a guess")], "bad_signature"),
        ([signed() + "x"], "malformed"),
        ([signed(ago_s=7 * 3600)], "expired"),
        ([signed(ago_s=-3600)], "future"),
        (["1" * 2000], "too_long"),
        (["1"] * 200, "too_many_headers"),
        ([signed(hop=32 - 1), "1"], "conflict"),
    ],
)
def test_what_cannot_be_trusted_is_refused_and_never_normal(made, ear, values: list[str], reason: str) -> None:
    arrival = arrived(made(), *values)
    assert (arrival.mark, arrival.refused, arrival.stripped) == (None, reason, False)
    assert ear.told == [f"shadow in refused {reason}"]


def test_the_same_mark_twice_is_one_even_when_a_proxy_has_joined_them(made) -> None:
    value = signed()
    assert not arrived(made(), value, value).refused
    assert not arrived(made(), f"{value}, {value}").refused


def test_a_mark_that_has_gone_too_far_is_refused(made) -> None:
    propagator = made(mark={"trust": "open", "max_hops": 3})
    assert not arrived(propagator, "1;run=a;hop=3").refused
    assert arrived(propagator, "1;run=a;hop=4").refused == "too_many_hops"


def test_a_service_that_takes_no_part_refuses_every_mark(made, ear) -> None:
    propagator = made({"shadow": False})
    assert arrived(propagator, signed()).refused == "not_taking_part"
    assert ear.told == ["shadow in refused not_taking_part"]
    assert arrived(propagator).mark is None


# In, at the edge


@pytest.mark.parametrize("trust", ["open", "signed"])
@pytest.mark.parametrize("value", ["1", "true", "1;run=a", "", "yes", "v9;run=a", "1;run=a,1;run=b"])
def test_at_the_edge_a_mark_without_a_signature_is_taken_off(made, ear, trust: str, value: str) -> None:
    propagator = made({"edge": True}, mark={"trust": trust, "keys": [{"id": "k1", "secret_env": "SHADOW_KEY_1"}]})
    arrival = arrived(propagator, value)
    assert (arrival.mark, arrival.refused, arrival.stripped) == (None, "", True)
    assert ear.told == ["normal in stripped foreign"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([signed(secret="a guess")], "bad_signature"),
        ([signed(ago_s=7 * 3600)], "expired"),
        ([signed(), "1"], "conflict"),
        ([signed()[:-1]], "malformed"),
    ],
)
def test_at_the_edge_a_signature_that_fails_is_refused_for_it_may_be_a_test(made, values, reason: str) -> None:
    arrival = arrived(made({"edge": True}), *values)
    assert (arrival.refused, arrival.stripped) == (reason, False)


def test_at_the_edge_a_signed_mark_is_taken(made) -> None:
    arrival = arrived(made({"edge": True}), signed())
    assert arrival.mark is not None
    assert arrival.mark.run == RUN


# Out


def test_a_normal_call_carries_nothing_wherever_it_goes(made, ear) -> None:
    assert made().departing("anywhere.example", 443, "http") is None
    assert ear.told == []


def test_a_shadow_call_carries_its_mark_one_hop_further(made, ear) -> None:
    propagator = made({"allow": ["ss-business"]})
    arrival = arrived(propagator, signed(hop=3))
    with ss.entered(arrival.mark):
        value = propagator.departing("ss-business", 80, "http")
    again = arrived(propagator, value)
    assert again.mark is not None
    assert (again.mark.run, again.mark.hop) == (RUN, 5)
    assert again.mark.signature == arrival.mark.signature
    assert ear.told == ["shadow in carried", "shadow out carried", "shadow in carried"]


def test_a_run_that_begins_here_is_signed_here(made) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="fcst-2")):
        value = propagator.departing("ss-business", 80, "http")
    assert arrived(propagator, value).mark.run == "fcst-2"


def test_a_shadow_call_to_a_host_that_is_not_listed_is_stopped(made, ear) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="a")), pytest.raises(NotAllowedError, match=r"'payments.example:443'.*allow"):
        propagator.departing("payments.example", 443, "http")
    assert ear.told == ["shadow out refused not_listed"]


def test_a_shadow_call_may_go_without_the_mark_where_the_configuration_says_so(made, ear) -> None:
    propagator = made({"unmarked": ["geo.example"]})
    with ss.entered(Mark(run="a")):
        assert propagator.departing("geo.example", 443, "http") is None
    assert ear.told == ["shadow out unmarked"]


def test_a_mark_forwarded_by_hand_must_be_the_one_of_the_work_at_hand(made) -> None:
    propagator = made({"allow": ["ss-business"]}, mark=OPEN)
    with ss.entered(Mark(run="a")):
        assert propagator.departing("ss-business", 80, "http", [b"1;run=a"])
        with pytest.raises(MarkError, match="run 'a'"):
            propagator.departing("ss-business", 80, "http", [b"1;run=b"])
        with pytest.raises(MarkError, match="malformed"):
            propagator.departing("ss-business", 80, "http", [b"junk"])
    with pytest.raises(MarkError, match="at hand is normal"):
        propagator.departing("ss-business", 80, "http", [b"1;run=a"])


def test_a_loop_of_calls_ends(made) -> None:
    propagator = made({"allow": ["ss-business"]}, mark={**OPEN, "max_hops": 5})
    mark, hops = Mark(run="a"), 0
    with pytest.raises(MarkError, match="look for a loop"):  # noqa: PT012 - how far it came is part of it
        while hops < 100:
            with ss.entered(mark):
                mark = arrived(propagator, propagator.departing("ss-business", 80, "http")).mark
            hops += 1
    assert hops == 5


def test_no_secret_is_in_what_is_raised_or_told(made) -> None:
    propagator = made()
    value = signed()
    mark = arrived(propagator, value).mark
    with ss.entered(mark), pytest.raises(NotAllowedError) as raised:
        propagator.departing("elsewhere.example", 80, "http")
    with pytest.raises(MarkError) as conflict:
        propagator.departing("elsewhere.example", 80, "http", [value.encode()])
    for told in (raised, conflict):
        assert value.rpartition("sig=")[2] not in str(told.value)


def test_a_stale_lane_is_not_believed_by_the_next_service(made) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="a", expires_at=int(time.time()) - 3600)):
        value = propagator.departing("ss-business", 80, "http")
    assert arrived(propagator, value).refused == "expired"
