"""What a request that came is, and what a call that leaves carries."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shadowstream as ss
from shadowstream.errors import MarkError, NotAllowedError
from shadowstream.lane import Mark
from shadowstream.propagate import Arrival, Propagator
from shadowstream.propagate.carrier import Pairs
from tests.signals import RUN, settings_of, signed

OPEN = {"trust": "open"}


def arrived(propagator, *values: str, carrier: Pairs | None = None):
    return propagator.arrived(carrier or Pairs([("x-shadow", value) for value in values]), "http")


def departing(propagator, host: str, *present: tuple[str, str], port: int = 80) -> dict[str, str]:
    carrier = Pairs([("own", "1"), *present])
    propagator.departing(carrier, host, port, "http")
    assert len(dict(carrier.pairs)) == len(carrier.pairs)
    assert carrier.pairs[0] == ("own", "1")
    return dict(carrier.pairs[1:])


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
        (["X" + signed()], "malformed"),
        ([signed() + "\x0b"], "malformed"),
        ([signed(hop=32 - 1), "1"], "conflict"),
    ],
)
def test_what_cannot_be_trusted_is_refused_and_never_normal(made, ear, values: list[str], reason: str) -> None:
    arrival = arrived(made(), *values)
    assert (arrival.mark, arrival.refused) == (None, reason)
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


def test_a_service_whose_shadow_lane_is_off_refuses_every_mark(tmp_path) -> None:
    settings = settings_of(tmp_path)
    propagator = Propagator(replace(settings, shadow=None))
    assert arrived(propagator, signed()).refused == "shadow_off"


def test_only_a_run_that_has_a_lease_goes_on(made, ear, monkeypatch) -> None:
    class Leased:
        closed = False

        def __init__(self, fleet) -> None:
            self.url = fleet.url

        def live(self, run: str | None) -> bool:
            return run == RUN

        def close(self) -> None:
            Leased.closed = True

    monkeypatch.setattr("shadowstream.propagate.propagator.Leases", Leased)
    fleet = {"url": "redis://localhost:1", "lease": True}
    propagator = made(fleet=fleet)
    assert arrived(propagator, signed()).mark.run == RUN
    assert arrived(propagator, signed("another")).refused == "no_lease"
    propagator.close()
    assert Leased.closed
    for other in (made(), made(fleet={**fleet, "lease": False})):
        assert arrived(other, signed("another")).mark.run == "another"
        other.close()
    assert arrived(made({"shadow": False}, fleet=fleet), signed()).refused == "not_taking_part"


def test_the_headers_that_may_hold_a_mark_are_told_in_lower_case(made) -> None:
    assert made(mark={"trust": "open", "header": "X-Test"}).names == ("x-test",)
    assert made({"baggage": True}).names == ("x-shadow", "baggage")


# In, at the edge


@pytest.mark.parametrize("trust", ["open", "signed"])
@pytest.mark.parametrize("value", ["1", "true", "1;run=a", "", "yes", "v9;run=a", "1;run=a,1;run=b"])
def test_at_the_edge_a_mark_without_a_signature_is_taken_off(made, ear, trust: str, value: str) -> None:
    propagator = made({"edge": True}, mark={"trust": trust, "keys": [{"id": "k1", "secret_env": "SHADOW_KEY_1"}]})
    carrier = Pairs([("own", "1"), ("x-shadow", value)])
    assert arrived(propagator, carrier=carrier) == Arrival()
    assert carrier.pairs == [("own", "1")]
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
    assert arrived(made({"edge": True}), *values).refused == reason


def test_at_the_edge_a_signed_mark_is_taken(made) -> None:
    arrival = arrived(made({"edge": True}), signed())
    assert arrival.mark is not None
    assert arrival.mark.run == RUN


# Out


def test_a_normal_call_carries_nothing_wherever_it_goes(made, ear) -> None:
    assert departing(made(), "anywhere.example") == {}
    assert ear.told == []


def test_a_shadow_call_carries_its_mark_one_hop_further(made, ear) -> None:
    propagator = made({"allow": ["ss-business"]})
    arrival = arrived(propagator, signed(hop=3))
    with ss.entered(arrival.mark):
        value = departing(propagator, "ss-business")["x-shadow"]
    again = arrived(propagator, value)
    assert again.mark is not None
    assert (again.mark.run, again.mark.hop) == (RUN, 5)
    assert again.mark.signature == arrival.mark.signature
    assert ear.told == ["shadow in carried", "shadow out carried", "shadow in carried"]


def test_a_run_that_begins_here_is_signed_here(made) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="fcst-2")):
        value = departing(propagator, "ss-business")["x-shadow"]
    assert arrived(propagator, value).mark.run == "fcst-2"


def test_a_shadow_call_to_a_host_that_is_not_listed_is_stopped(made, ear) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="a")), pytest.raises(NotAllowedError, match=r"'payments.example:443'.*allow"):
        departing(propagator, "payments.example", port=443)
    assert ear.told == ["shadow out refused not_listed"]


def test_a_shadow_call_may_go_without_the_mark_where_the_configuration_says_so(made, ear) -> None:
    propagator = made({"unmarked": ["geo.example"]}, mark=OPEN)
    with ss.entered(Mark(run="a")):
        assert departing(propagator, "geo.example", ("x-shadow", "1;run=a")) == {}
    assert ear.told == ["shadow out unmarked"]


def test_a_mark_forwarded_by_hand_must_be_the_one_of_the_work_at_hand(made) -> None:
    propagator = made({"allow": ["ss-business"]}, mark=OPEN)
    with ss.entered(Mark(run="a")):
        assert departing(propagator, "ss-business", ("x-shadow", "1;run=a"))["x-shadow"].startswith("1;run=a;")
        with pytest.raises(MarkError, match="run 'a'"):
            departing(propagator, "ss-business", ("x-shadow", "1;run=b"))
        with pytest.raises(MarkError, match="malformed"):
            departing(propagator, "ss-business", ("x-shadow", "junk"))
    with pytest.raises(MarkError, match="at hand is normal"):
        departing(propagator, "ss-business", ("x-shadow", "1;run=a"))


def test_a_loop_of_calls_ends(made) -> None:
    propagator = made({"allow": ["ss-business"]}, mark={**OPEN, "max_hops": 5})
    mark, hops = Mark(run="a"), 0
    with pytest.raises(MarkError, match="look for a loop"):  # noqa: PT012 - how far it came is part of it
        while hops < 100:
            with ss.entered(mark):
                mark = arrived(propagator, departing(propagator, "ss-business")["x-shadow"]).mark
            hops += 1
    assert hops == 5


def test_no_secret_is_in_what_is_raised_or_told(made) -> None:
    propagator = made()
    value = signed()
    mark = arrived(propagator, value).mark
    with ss.entered(mark), pytest.raises(NotAllowedError) as raised:
        departing(propagator, "elsewhere.example")
    with pytest.raises(MarkError) as conflict:
        departing(propagator, "elsewhere.example", ("x-shadow", value))
    for told in (raised, conflict):
        assert value.rpartition("sig=")[2] not in str(told.value)


def test_a_stale_lane_is_not_believed_by_the_next_service(made) -> None:
    propagator = made({"allow": ["ss-business"]})
    with ss.entered(Mark(run="a", expires_at=int(time.time()) - 3600)):
        value = departing(propagator, "ss-business")["x-shadow"]
    assert arrived(propagator, value).refused == "expired"


def test_a_port_that_is_listed_is_the_only_one(made) -> None:
    propagator = made({"allow": ["ss-business:8080"], "unmarked": ["geo.example:9000"]})
    with ss.entered(Mark(run="a")):
        assert departing(propagator, "ss-business", port=8080)
        assert not departing(propagator, "geo.example", port=9000)
        for host in ("ss-business", "geo.example"):
            with pytest.raises(NotAllowedError, match=f"call to '{host}:80' was stopped"):
                departing(propagator, host)
        with pytest.raises(NotAllowedError, match=r"call to 'geo.example' was stopped: .* list it under `propagate"):
            propagator.departing(Pairs([]), "geo.example", None, "http")


def test_whatever_is_told_names_its_wire(made, ear) -> None:
    propagator = made({"edge": True, "allow": ["a"], "unmarked": ["b"]})
    for value in ("1", signed(), signed()[:-1]):
        propagator.arrived(Pairs([("x-shadow", value)]), "grpc")
    with ss.entered(Mark(run="a")):
        for host in ("a", "b"):
            propagator.departing(Pairs([]), host, None, "grpc")
        with pytest.raises(NotAllowedError):
            propagator.departing(Pairs([]), "c", None, "grpc")
    assert [each.wire for each in ear.heard] == ["grpc"] * 6
    assert [each.verdict for each in ear.heard] == ["stripped", "carried", "refused", "carried", "unmarked", "refused"]


# As baggage


def member(mark: str) -> str:
    return f"x-shadow={quote(mark, safe='')}"


def baggage_in(propagator, header: str | None, baggage: str):
    pairs = [("baggage", baggage), *([] if header is None else [("x-shadow", header)])]
    return propagator.arrived(Pairs(list(pairs)), "http")


def test_a_mark_that_came_as_baggage_alone_is_the_lane(made) -> None:
    mark = signed(hop=2)
    for baggage in (member(mark), f"a=1,{member(mark)};property=1, b=2", f" x-shadow = {quote(mark, safe='')} "):
        arrival = baggage_in(made({"baggage": True}), None, baggage)
        assert arrival.mark is not None, baggage
        assert (arrival.mark.run, arrival.mark.hop) == (RUN, 3)


def test_the_header_wins_and_disagreement_is_a_conflict(made) -> None:
    propagator, mark = made({"baggage": True}), signed(hop=5)
    assert baggage_in(propagator, mark, member(signed(hop=2))).mark.hop == 6
    assert baggage_in(propagator, mark, "a=1").mark.hop == 6
    for other in (member(signed("another")), member("junk"), member("1"), "x-shadow=", "x-shadow"):
        assert baggage_in(propagator, mark, other).refused == "baggage_conflict", other
        assert baggage_in(propagator, "junk", member(mark)).refused == "baggage_conflict"


def test_a_mark_in_baggage_is_believed_no_more_than_one_in_a_header(made) -> None:
    propagator = made({"baggage": True})
    for mark, reason in (
        ("1", "unsigned"),
        (signed(secret="a guess"), "bad_signature"),
        (signed(ago_s=1e5), "expired"),
    ):
        assert baggage_in(propagator, None, member(mark)).refused == reason
    assert baggage_in(propagator, None, f"{member(signed())},{member(signed('another'))}").refused == "conflict"


def test_baggage_is_not_looked_at_unless_the_configuration_says_so(made) -> None:
    assert baggage_in(made(), None, member(signed())) == Arrival()
    assert made().names == ("x-shadow",)


def test_too_much_baggage_carries_no_mark_and_the_header_is_not_touched_by_that(made) -> None:
    propagator, mark = made({"baggage": True}), signed()
    for baggage in (f"a={'x' * 9000},{member(mark)}", ",".join([*(f"a{n}=1" for n in range(64)), member(mark)])):
        assert baggage_in(propagator, None, baggage) == Arrival()
        assert baggage_in(propagator, mark, baggage).mark is not None


def test_the_mark_is_mirrored_beside_what_others_have_there(made) -> None:
    propagator = made({"allow": ["ss-business"], "baggage": True})
    with ss.entered(Mark(run=RUN)):
        headers = departing(propagator, "ss-business", ("baggage", f"a=1;p,{member(signed(hop=1))},b=%20"))
    others, mirrored = headers["baggage"].rsplit(",", 1)
    assert others == "a=1;p,b=%20"
    assert mirrored == member(headers["x-shadow"])
    arrival = baggage_in(propagator, headers["x-shadow"], headers["baggage"])
    assert arrival.mark is not None


def test_a_call_that_carries_no_mark_carries_none_as_baggage_either(made) -> None:
    propagator = made({"unmarked": ["geo.example"], "baggage": True})
    with ss.entered(Mark(run=RUN)):
        assert departing(propagator, "geo.example", ("baggage", f"a=1,{member(signed())}")) == {"baggage": "a=1"}
        assert departing(propagator, "geo.example", ("baggage", member(signed()))) == {}
    with pytest.raises(MarkError, match="at hand is normal"):
        departing(propagator, "geo.example", ("baggage", member(signed())))
    assert departing(propagator, "geo.example", ("baggage", "a=1")) == {"baggage": "a=1"}


def test_at_the_edge_foreign_marks_are_taken_out_of_the_baggage(made, ear) -> None:
    propagator = made({"edge": True, "baggage": True})
    carrier = Pairs([("baggage", f"a=1,{member('1;run=x')}"), ("x-shadow", "1")])
    assert propagator.arrived(carrier, "http") == Arrival()
    assert carrier.pairs == [("baggage", "a=1")]
    assert ear.told == ["normal in stripped foreign"]


@given(st.lists(st.binary(max_size=40), max_size=4), st.lists(st.binary(max_size=200), max_size=3))
@settings(
    derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_comes_nothing_is_raised_and_nothing_unsigned_is_shadow(made, values, baggage) -> None:
    propagator = made({"baggage": True})
    carrier = Pairs([*(("x-shadow", value) for value in values), *(("baggage", value) for value in baggage)])
    arrival = propagator.arrived(carrier, "http")
    assert arrival.mark is None
    assert bool(arrival.refused) or not values
