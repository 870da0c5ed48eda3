"""The mark on the wire: what is believed, what is refused and why, and what the next hop gets."""

from __future__ import annotations

import hmac
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowstream.errors import MarkError, SetupError
from shadowstream.headers import (
    MAX_HOP,
    MAX_KNOWN,
    NEAR_MISS,
    NORMAL,
    UNREADABLE,
    Keyring,
    Kind,
    MarkReader,
    MarkWriter,
    Reading,
    encode,
)
from shadowstream.kafka.engine import fate
from shadowstream.lane import Lane, Mark

NOW = 1_795_480_000.0
EXP = int(NOW) + 3600
MAX_AGE_S = 21600.0
SKEW_S = 30.0
SECRET, OLDER, FOREIGN = b"s" * 32, b"o" * 32, b"f" * 32
RUN = "fcst-1111"
PLAIN = f"1;run={RUN};exp={EXP};hop=3".encode()

# The same examples on every run: a test that fails by chance is soon ignored.
steady = settings(derandomize=True, deadline=None, max_examples=200)


def signature(secret: bytes, run: str = RUN, exp: int = EXP, algorithm: str = "sha256") -> str:
    """Sign as section 6 of the design says, written again here so that a change of the format is seen."""
    digest = hmac.new(secret, f"1;run={run};exp={exp}".encode(), algorithm).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def signed(secret: bytes = SECRET, run: str = RUN, exp: int = EXP, key_id: str = "k1") -> bytes:
    return f"1;run={run};exp={exp};hop=3;kid={key_id};sig={signature(secret, run, exp)}".encode()


def open_reader() -> MarkReader:
    return MarkReader()


def keyed_reader() -> MarkReader:
    return MarkReader(keys={"k1": SECRET, "k0": OLDER})


def signed_reader() -> MarkReader:
    return MarkReader(keys={"k1": SECRET, "k0": OLDER}, signed=True)


def quarantined(reading: Reading) -> str:
    assert reading.kind is Kind.QUARANTINE
    assert reading.mark is None
    assert reading.reason
    return reading.reason


# --- B1, B2: absent, empty, twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [None, [], [("traceparent", b"00-1"), ("trace-id", None)]])
def test_a_message_without_a_mark_is_normal(headers: list[tuple[str, bytes | None]] | None) -> None:
    for reader in (open_reader(), signed_reader()):
        assert reader.read(headers, NOW) is NORMAL


@pytest.mark.parametrize("value", [b"", None])
def test_a_mark_that_is_present_but_empty_is_quarantined(value: bytes | None) -> None:
    assert quarantined(open_reader().read([("x-shadow", value)], NOW)) == "empty"
    assert quarantined(open_reader().read_value(value, NOW)) == "empty"


def test_a_mark_given_twice_alike_is_one() -> None:
    reading = open_reader().read([("x-shadow", PLAIN), ("other", b"1"), ("x-shadow", bytes(bytearray(PLAIN)))], NOW)
    assert reading == Reading(Kind.SHADOW, Mark(RUN, EXP, 3), "")


@pytest.mark.parametrize(
    "values",
    [
        [b"1", b"true"],
        [b"1;run=a", b"1;run=b"],
        [b"1;run=a", b"1;run=a;hop=1"],
        [b"1", b"1", b"0"],
        [b"1", b""],
        [None, b"1"],
        [b"1", None],
        [b"", None],
    ],
)
def test_marks_that_disagree_are_a_conflict_whatever_their_order(values: list[bytes | None]) -> None:
    for order in (values, values[::-1]):
        assert quarantined(open_reader().read([("x-shadow", value) for value in order], NOW)) == "conflict"


def test_an_empty_mark_given_twice_is_empty_and_no_conflict() -> None:
    assert quarantined(open_reader().read([("x-shadow", None), ("x-shadow", None)], NOW)) == "empty"


# --- B3: almost our name, almost our value ----------------------------------------------------------------------------

NEARLY = [
    "X-Shadow",
    "X-SHADOW",
    "x-Shadow",
    "X-shadow",
    "x-shadoW",
    "x-sHadow",
    "x-shAdow",
    "x-shaDow",
    "x-shadOw",
    "X-sHADOW",
    "x_shadow",
    "X_SHADOW",
]


@pytest.mark.parametrize("name", NEARLY)
def test_a_name_that_differs_in_case_or_underscore_stays_normal_and_is_counted(name: str) -> None:
    for reader in (open_reader(), signed_reader()):
        assert reader.read([("traceparent", b"1"), (name, b"1"), ("after", b"1")], NOW) is NEAR_MISS
    assert NEAR_MISS.kind is Kind.NORMAL


@pytest.mark.parametrize(
    "name",
    [
        "",
        "shadow",
        "x-shadow ",
        " x-shadow",
        "x-shadow\0",
        "x-shado",
        "x--shadow",
        "trace-id",
        "\ufeffx-shadow",
        "x" * 65,
    ],
)
def test_a_name_that_is_simply_another_is_normal(name: str) -> None:
    assert open_reader().read([(name, b"1")], NOW) is NORMAL


@pytest.mark.parametrize("first", [True, False])
def test_a_near_miss_beside_the_exact_name_changes_nothing(first: bool) -> None:
    exact: list[tuple[str, bytes | None]] = [("x-shadow", PLAIN)]
    near: list[tuple[str, bytes | None]] = [("X-Shadow", b"1;run=other")]
    reading = open_reader().read(near + exact if first else exact + near, NOW)
    assert reading == Reading(Kind.SHADOW, Mark(RUN, EXP, 3), "")


def test_another_name_may_be_configured_and_is_matched_exactly() -> None:
    reader = MarkReader(name="X_Stress.Test")
    assert reader.read([("X_Stress.Test", b"1")], NOW).kind is Kind.SHADOW
    assert reader.read([("x-stress.test", b"1")], NOW) is NEAR_MISS
    assert reader.read([("x-shadow", b"1")], NOW) is NORMAL


@pytest.mark.parametrize(
    "value",
    [
        b"TRUE",
        b"True",
        b"TRUE ",
        b"true ",
        b" true",
        b"1 ",
        b" 1",
        b"1\n",
        b"1\r\n",
        b"1\0",
        b"\0",
        b"true\0",
        b"\xef\xbb\xbf1",
        b"\xef\xbb\xbftrue",
        "\uff11".encode(),
        "1;run=\uff11".encode(),
        "1;run=a;hop=\uff11".encode(),
        "1;run=a;exp=\u0661\u0662".encode(),
        b"\xff\xfe",
        b"1;run=\xff",
        b"yes",
        b"on",
        b"0",
        b"false",
        b"11",
        b"-1",
        b"+1",
        b"1.0",
        b"1, 1",
        b"true, true",
    ],
)
def test_a_value_that_is_almost_a_mark_is_quarantined(value: bytes) -> None:
    for reader in (open_reader(), signed_reader()):
        assert quarantined(reader.read([("x-shadow", value)], NOW)) in {"malformed", "unknown_version"}


def test_a_value_that_is_text_or_no_bytes_at_all_is_quarantined() -> None:
    """Some clients hand out text; it is not guessed how they decoded it."""
    values: list[object] = ["1", PLAIN.decode(), "\ud800", bytearray(b"1"), memoryview(b"1"), 1, [1]]
    for value in values:
        reading = open_reader().read([("x-shadow", value)], NOW)  # type: ignore[list-item]  # what a client might do
        assert reading is UNREADABLE
    assert open_reader().read_value("1", NOW) is UNREADABLE
    assert quarantined(UNREADABLE) == "unreadable"


@pytest.mark.parametrize("name", ["\ud800", "x-shado\ud800", "\udcff" * 8, "\u0130-shadow", "\u212a" * 8, "\0" * 8])
def test_a_name_of_strange_characters_is_normal(name: str) -> None:
    assert open_reader().read([(name, b"1")], NOW) is NORMAL


# --- B4: versions, junk, sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"v9", b"2", b"9;run=a", b"v10;run=a", b"10", b"2;anything goes", b"0;run=a"])
def test_a_version_nobody_taught_us_is_quarantined(value: bytes) -> None:
    assert quarantined(open_reader().read_value(value, NOW)) == "unknown_version"


@pytest.mark.parametrize(
    "value",
    [
        b"1;",
        b"1;;run=a",
        b"1;run",
        b"1;run=",
        b"1;run=a;",
        b"1;run=a;hop",
        b"1;run=a;hop=",
        b"1;run=a;hop=03",
        b"1;run=a;hop=1000",
        b"1;run=a;hop=-1",
        b"1;run=a;hop=+1",
        b"1;run=a;hop=1_0",
        b"1;run=a;exp=01",
        b"1;run=a;exp=1.5",
        b"1;run=a;exp=-1",
        b"1;run=a;exp=1000000000000",
        b"1;run=a;hop=1;exp=9",
        b"1;exp=9;run=a",
        b"1;exp=9",
        b"1;hop=3",
        b"1;run=a;run=a",
        b"1;run=a;run=b",
        b"1;run=a;hop=1;hop=1",
        b"1;run=a;new=1",
        b"1;run=a junk",
        b"1;run=a\n",
        b"1; run=a",
        b"1;run =a",
        b"1;run= a",
        b"1;RUN=a",
        b"1;run=a;exp=9;kid=k1",
        b"1;run=a;exp=9;sig=" + b"A" * 43,
        b"1;run=a;exp=9;sig=" + b"A" * 43 + b";kid=k1",
        b"1;run=a;exp=9;kid=;sig=" + b"A" * 43,
        b"1;run=a;exp=9;kid=k 1;sig=" + b"A" * 43,
        b"1;run=a;exp=9;kid=" + b"k" * 33 + b";sig=" + b"A" * 43,
        b"1;run=a;exp=9;kid=k1;sig=" + b"A" * 42,
        b"1;run=a;exp=9;kid=k1;sig=" + b"A" * 44,
        b"1;run=a;exp=9;kid=k1;sig=" + b"A" * 43 + b"=",
        b"1;run=a;exp=9;kid=k1;sig=" + b"+" * 43,
        b"true;run=a",
        b"v1",
        b"v1;run=a",
    ],
)
def test_a_value_outside_the_grammar_is_quarantined(value: bytes) -> None:
    for reader in (open_reader(), keyed_reader(), signed_reader()):
        assert quarantined(reader.read_value(value, NOW)) == "malformed"


def test_a_signed_mark_without_an_expiry_is_quarantined() -> None:
    value = f"1;run={RUN};hop=3;kid=k1;sig={signature(SECRET)}".encode()
    assert quarantined(open_reader().read_value(value, NOW)) == "malformed"


def test_a_mark_cut_short_anywhere_is_never_shadow_in_signed_trust() -> None:
    value = signed()
    for end in range(len(value)):
        quarantined(signed_reader().read_value(value[:end], NOW))


def test_trailing_junk_is_never_shadow() -> None:
    for junk in range(256):
        quarantined(signed_reader().read_value(signed() + bytes([junk]), NOW))


def test_a_value_above_1_kib_is_refused_by_its_length_alone() -> None:
    assert quarantined(open_reader().read_value(b"1" * 1024, NOW)) == "unknown_version"
    assert quarantined(open_reader().read_value(b"1" * 1025, NOW)) == "too_long"
    assert quarantined(open_reader().read([("x-shadow", b"1;run=" + b"a" * 2**20)], NOW)) == "too_long"


@pytest.mark.parametrize("count", [129, 20_000])
@pytest.mark.parametrize("place", [None, 0, -1])
def test_more_than_128_headers_are_quarantined_whatever_they_are(count: int, place: int | None) -> None:
    headers: list[tuple[str, bytes | None]] = [("other", b"1")] * count
    if place is not None:
        headers[place] = ("x-shadow", b"1")
    assert quarantined(open_reader().read(headers, NOW)) == "too_many_headers"


def test_a_mark_at_the_end_of_128_headers_is_found() -> None:
    headers: list[tuple[str, bytes | None]] = [("other", b"1")] * 127
    assert open_reader().read([*headers, ("other", b"1")], NOW) is NORMAL
    assert open_reader().read([*headers, ("x-shadow", b"1")], NOW).kind is Kind.SHADOW


def test_a_header_name_that_cannot_be_sent_is_refused_when_the_reader_is_built() -> None:
    for name in ("", "x" * 65, "x shadow", "x-sh\u00e4dow", "x-shadow\n", "x:shadow"):
        with pytest.raises(SetupError, match="mark header"):
            MarkReader(name=name)
        with pytest.raises(SetupError, match="mark header"):
            MarkWriter(name=name)
    assert MarkReader(name="x" * 64).name == MarkWriter(name="x" * 64).name == "x" * 64


# --- B5, B6: signatures, keys, clocks ---------------------------------------------------------------------------------


def test_a_signed_mark_is_shadow_with_all_it_says() -> None:
    expected = Reading(Kind.SHADOW, Mark(RUN, EXP, 3, "k1", signature(SECRET)), "")
    assert signed_reader().read([("x-shadow", signed())], NOW) == expected
    assert keyed_reader().read_value(signed(), NOW) == expected


@pytest.mark.parametrize("value", [b"1", b"true", b"1;run=a", PLAIN])
def test_an_unsigned_mark_is_refused_in_signed_trust_and_believed_in_open_trust(value: bytes) -> None:
    assert quarantined(signed_reader().read_value(value, NOW)) == "unsigned"
    assert open_reader().read_value(value, NOW).kind is Kind.SHADOW
    assert keyed_reader().read_value(value, NOW).kind is Kind.SHADOW


def test_a_stale_unsigned_mark_is_refused_and_not_expired_in_signed_trust() -> None:
    assert quarantined(signed_reader().read_value(b"1;run=a;exp=1", NOW)) == "unsigned"


def test_open_trust_with_keys_refuses_a_bad_signature_that_it_finds() -> None:
    assert quarantined(keyed_reader().read_value(signed(FOREIGN), NOW)) == "bad_signature"
    assert quarantined(keyed_reader().read_value(signed(key_id="k9"), NOW)) == "unknown_key"


def test_open_trust_without_keys_checks_no_signature() -> None:
    assert open_reader().read_value(signed(FOREIGN, key_id="k9"), NOW).kind is Kind.SHADOW


def test_signed_trust_without_any_key_believes_nothing() -> None:
    reader = MarkReader(signed=True)
    assert quarantined(reader.read_value(signed(), NOW)) == "unknown_key"
    assert quarantined(reader.read_value(b"1", NOW)) == "unsigned"


def test_a_signature_of_another_run_expiry_or_key_is_bad() -> None:
    for other in (signature(SECRET, run="fcst-2222"), signature(SECRET, exp=EXP + 1), signature(OLDER), "A" * 43):
        value = f"1;run={RUN};exp={EXP};kid=k1;sig={other}".encode()
        assert quarantined(signed_reader().read_value(value, NOW)) == "bad_signature"


def test_the_hop_is_not_signed_because_every_hop_changes_it() -> None:
    value = signed().replace(b"hop=3", b"hop=4")
    mark = signed_reader().read_value(value, NOW).mark
    assert mark is not None
    assert mark.hop == 4


def test_a_second_spelling_of_the_same_signature_is_bad() -> None:
    """43 base64 characters carry two bits more than 32 bytes: four spellings decode alike, one is ours."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    value = signed()
    spellings = [value[:-1] + bytes([last]) for last in alphabet]
    assert [one for one in spellings if signed_reader().read_value(one, NOW).kind is Kind.SHADOW] == [value]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha512", "sha3_256"])
def test_no_message_can_choose_another_algorithm(algorithm: str) -> None:
    other = signature(SECRET, algorithm=algorithm)
    for sig in (other, other[:43]):
        value = f"1;run={RUN};exp={EXP};kid=k1;sig={sig}".encode()
        assert quarantined(signed_reader().read_value(value, NOW)) in {"malformed", "bad_signature"}


@pytest.mark.parametrize("extra", [b";alg=none", b";alg=HS256", b";kid=none;sig=", b";kid=none;sig=none"])
def test_there_is_no_none_algorithm(extra: bytes) -> None:
    assert quarantined(signed_reader().read_value(f"1;run={RUN};exp={EXP}".encode() + extra, NOW)) == "malformed"


def test_while_two_keys_live_the_first_signs_and_the_older_still_verifies() -> None:
    before = MarkWriter(keys=[("k0", OLDER)]).onward(Mark(RUN), NOW)
    after = MarkWriter(keys=[("k1", SECRET), ("k0", OLDER)]).onward(Mark(RUN), NOW)
    for value, key_id in ((before, "k0"), (after, "k1")):
        mark = signed_reader().read_value(value, NOW).mark
        assert mark is not None
        assert mark.key_id == key_id


def test_a_removed_key_is_unknown() -> None:
    value = MarkWriter(keys=[("k0", OLDER)]).onward(Mark(RUN), NOW)
    reader = MarkReader(keys={"k1": SECRET}, signed=True)
    assert quarantined(reader.read_value(value, NOW)) == "unknown_key"


@pytest.mark.parametrize("key_id", ["", "k 1", "k;1", "k" * 33, "sch\u00fcssel", "\ud800"])
def test_a_key_id_that_no_mark_can_carry_is_refused_when_built(key_id: str) -> None:
    with pytest.raises(SetupError, match="use an id of 1 to 32"):
        MarkReader(keys={key_id: SECRET})
    with pytest.raises(SetupError, match="use an id of 1 to 32"):
        MarkWriter(keys=[("k1", SECRET), (key_id, SECRET)])


def test_an_empty_secret_is_refused_when_built() -> None:
    with pytest.raises(SetupError, match="its secret is empty"):
        MarkReader(keys={"k1": b""})
    with pytest.raises(SetupError, match="its secret is empty"):
        MarkWriter(keys=[("k1", b"")])


@pytest.mark.parametrize(
    ("now", "kind", "reason"),
    [
        (EXP - MAX_AGE_S - SKEW_S - 1, Kind.QUARANTINE, "future"),
        (EXP - MAX_AGE_S - SKEW_S - 0.01, Kind.QUARANTINE, "future"),
        (EXP - MAX_AGE_S - SKEW_S, Kind.SHADOW, ""),
        (EXP - 1.0, Kind.SHADOW, ""),
        (EXP + SKEW_S, Kind.SHADOW, ""),
        (EXP + SKEW_S + 0.01, Kind.EXPIRED, ""),
        (EXP + 86400.0, Kind.EXPIRED, ""),
        (inf, Kind.EXPIRED, ""),
        (-inf, Kind.QUARANTINE, "future"),
        (nan, Kind.QUARANTINE, "future"),
        (0.0, Kind.QUARANTINE, "future"),
    ],
)
def test_the_edges_of_the_expiry(now: float, kind: Kind, reason: str) -> None:
    for reader, value in ((open_reader(), PLAIN), (signed_reader(), signed())):
        reading = reader.read_value(value, now)
        assert (reading.kind, reading.reason) == (kind, reason)
        assert (reading.mark is None) is (kind is Kind.QUARANTINE)


def test_an_expired_message_still_says_which_run_it_was() -> None:
    reading = signed_reader().read([("x-shadow", signed())], EXP + 3600.0)
    assert reading == Reading(Kind.EXPIRED, Mark(RUN, EXP, 3, "k1", signature(SECRET)), "")


def test_a_forged_stale_mark_is_quarantined_and_not_merely_expired() -> None:
    for reader in (keyed_reader(), signed_reader()):
        assert quarantined(reader.read_value(signed(FOREIGN), EXP + 3600.0)) == "bad_signature"
        assert quarantined(reader.read_value(signed(key_id="k9"), EXP + 3600.0)) == "unknown_key"


def test_a_forged_future_mark_is_quarantined_for_its_signature() -> None:
    assert quarantined(signed_reader().read_value(signed(FOREIGN, exp=EXP + 10**6), NOW)) == "bad_signature"
    assert quarantined(signed_reader().read_value(signed(exp=EXP + 10**6), NOW)) == "future"


def test_a_mark_without_an_expiry_is_never_stale() -> None:
    for value in (b"1", b"true", b"1;run=a", b"1;run=a;hop=999"):
        assert open_reader().read_value(value, 0.0).kind is Kind.SHADOW
        assert open_reader().read_value(value, 1e12).kind is Kind.SHADOW


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_cached_mark_still_expires() -> None:
    reader = signed_reader()
    kinds = [reader.read_value(signed(), now).kind for now in (NOW, EXP + 60.0, NOW, NOW - 10**6, NOW)]
    assert kinds == [Kind.SHADOW, Kind.EXPIRED, Kind.SHADOW, Kind.QUARANTINE, Kind.SHADOW]


def test_a_mark_seen_before_is_not_parsed_again() -> None:
    reader = signed_reader()
    first = reader.read([("x-shadow", signed())], NOW)
    assert reader.read([("x-shadow", signed())], NOW + 1) is first


def test_what_was_refused_is_not_remembered() -> None:
    reader = signed_reader()
    for value in (b"junk", b"1", signed(FOREIGN), signed(key_id="k9"), b"9"):
        quarantined(reader.read_value(value, NOW))
    assert not reader._known


def test_the_cache_has_a_bound() -> None:
    reader = open_reader()
    for number in range(2 * MAX_KNOWN + 1):
        assert reader.read_value(b"1;run=r-%d" % number, NOW).kind is Kind.SHADOW
        assert len(reader._known) <= MAX_KNOWN


def test_readers_with_other_keys_share_no_cache() -> None:
    assert signed_reader().read_value(signed(), NOW).kind is Kind.SHADOW
    assert quarantined(MarkReader(keys={"k1": FOREIGN}, signed=True).read_value(signed(), NOW)) == "bad_signature"


def test_one_reader_serves_many_threads() -> None:
    reader = signed_reader()
    values = [signed(run=f"r-{number}") for number in range(50)]
    wrong: list[Reading] = []

    def work() -> None:
        for _ in range(20):
            for number, value in enumerate(values):
                reading = reader.read_value(value, NOW)
                if reading.mark is None or reading.mark.run != f"r-{number}":
                    wrong.append(reading)
            reader._known.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_wire_form_is_the_one_in_the_design() -> None:
    """The signature was made by another program: ``openssl dgst -sha256 -hmac ... -binary | basenc --base64url``."""
    mark = Mark("fcst-1111", 1795480000, 3, "k1", signature(SECRET, exp=1795480000))
    expected = b"1;run=fcst-1111;exp=1795480000;hop=3;kid=k1;sig=wOmE2lGgRjOZtVaRgTBRxhvtH3AELZexk9Arnq-AlfQ"
    assert encode(mark) == expected
    assert encode(Mark("a")) == b"1;run=a"
    assert encode(Mark("a", 0)) == b"1;run=a;exp=0"
    assert encode(Mark("a", None, 7)) == b"1;run=a;hop=7"
    assert encode(Mark()) == b"1"


@pytest.mark.parametrize(
    "mark",
    [
        Mark(expires_at=EXP),
        Mark(hop=1),
        Mark(key_id="k1", signature="A" * 43),
        Mark("a", 10**12),
        Mark("a", None, 1000),
        Mark("a", None, 0, "k1", "A" * 43),
        Mark("a", EXP, 0, "", "A" * 43),
        Mark("a", EXP, 0, "k;1", "A" * 43),
        Mark("a", EXP, 0, "k" * 33, "A" * 43),
        Mark("a", EXP, 0, "k1", "A" * 42),
        Mark("a", EXP, 0, "k1", "A" * 43 + "\n"),
        Mark("a", EXP, 0, "k1", "\ud800" * 43),
        Mark("a", 1.5),  # type: ignore[arg-type]  # what a careless caller might do
    ],
)
def test_a_mark_that_would_not_read_back_the_same_is_not_written(mark: Mark) -> None:
    with pytest.raises(MarkError) as caught:
        encode(mark)
    assert mark.signature is None or mark.signature not in str(caught.value)


def test_the_first_hop_gets_an_expiry_and_a_signature() -> None:
    value = MarkWriter(keys=[("k1", SECRET)], max_age_s=3600.0).onward(Mark(RUN), NOW + 0.7)
    assert signed_reader().read_value(value, NOW) == Reading(
        Kind.SHADOW, Mark(RUN, EXP, 1, "k1", signature(SECRET)), ""
    )


def test_without_keys_the_next_hop_gets_an_expiry_and_no_signature() -> None:
    writer = MarkWriter(max_age_s=3600.0)
    assert writer.onward(Mark(RUN), NOW) == f"1;run={RUN};exp={EXP};hop=1".encode()
    assert writer.onward(Mark(RUN, 5, 9), NOW) == f"1;run={RUN};exp=5;hop=10".encode()


def test_what_one_service_writes_the_next_one_with_the_same_settings_believes() -> None:
    value = MarkWriter(keys=[("k1", SECRET)]).onward(Mark(RUN), NOW + SKEW_S)
    assert signed_reader().read_value(value, NOW).kind is Kind.SHADOW


@pytest.mark.parametrize("keys", [[], [("k1", SECRET)], [("k2", FOREIGN)]])
def test_a_signature_is_passed_on_byte_for_byte_whatever_our_own_keys(keys: list[tuple[str, bytes]]) -> None:
    mark = Mark(RUN, EXP, 3, "k1", signature(SECRET))
    value = MarkWriter(keys=keys).onward(mark, NOW)
    assert value == signed().replace(b"hop=3", b"hop=4")
    assert signed_reader().read_value(value, NOW).kind is Kind.SHADOW


def test_a_bare_mark_stays_bare_without_keys() -> None:
    assert MarkWriter().onward(Mark(), NOW) == b"1"


def test_a_bare_mark_cannot_be_signed_and_the_error_names_the_cure() -> None:
    with pytest.raises(MarkError, match=r"give it one, Mark\(run=\.\.\.\)"):
        MarkWriter(keys=[("k1", SECRET)]).onward(Mark(), NOW)


def test_the_hop_after_998_is_the_last_and_a_thousandth_is_refused() -> None:
    writer = MarkWriter()
    last = writer.onward(Mark(RUN, EXP, MAX_HOP - 1), NOW)
    mark = open_reader().read_value(last, NOW).mark
    assert mark is not None
    assert mark.hop == MAX_HOP == 999
    with pytest.raises(MarkError, match="look for a loop"):
        writer.onward(mark, NOW)


def test_a_mark_signed_by_hand_without_an_expiry_is_given_one_and_then_fails_to_verify() -> None:
    """The writer never signs again what already carries a signature, so a careless one stays visibly wrong."""
    value = MarkWriter(keys=[("k1", SECRET)]).onward(Mark(RUN, None, 0, "k1", signature(SECRET)), NOW)
    assert quarantined(signed_reader().read_value(value, NOW)) == "bad_signature"


# --- any input at all -------------------------------------------------------------------------------------------------

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
runs = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40)
expiries = st.integers(0, 10**12 - 1) | st.integers(EXP - 30_000, EXP + 30_000)
hops = st.integers(0, 999)
key_ids = st.text(BASE64URL + ".", min_size=1, max_size=32)
signatures = st.text(BASE64URL, min_size=43, max_size=43)
unsigned_marks = st.builds(Mark, runs, st.none() | expiries, hops)
signed_marks = st.builds(Mark, runs, expiries, hops, key_ids, signatures)
marks = st.just(Mark()) | unsigned_marks | signed_marks
clocks = st.floats(NOW - 50_000, NOW + 50_000) | st.floats()


@st.composite
def genuine(draw: st.DrawFn) -> bytes:
    """Return a mark that signed trust believes."""
    return signed(run=draw(runs), exp=draw(st.integers(EXP - 3000, EXP + 3000)))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid mark with one byte changed, put in, taken out, doubled or moved to another place."""
    value = draw(genuine() | marks.map(encode) | st.sampled_from([b"1", b"true"]))
    place = draw(st.integers(0, len(value) - 1))
    byte = bytes([draw(st.integers(0, 255) | st.sampled_from(b"01;=-_ \n\0"))])
    cut = draw(st.integers(place, len(value)))
    return draw(
        st.sampled_from(
            [
                value[:place] + byte + value[place + 1 :],
                value[:place] + byte + value[place:],
                value[:place] + value[place + 1 :],
                value[:place] + value[place:cut] * 2 + value[cut:],
                value[:place],
                value[cut:] + value[:cut],
            ]
        )
    )


# Surrogates come out of clients that decode with "surrogateescape"; `st.text()` alone leaves them out.
any_text = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]))
names = st.just("x-shadow") | st.sampled_from([*NEARLY, "trace-id", "x-shadow "]) | any_text
values = st.none() | st.binary() | mutated() | genuine() | marks.map(encode)
readers = st.builds(
    MarkReader,
    keys=st.sampled_from([{}, {"k1": SECRET}, {"k1": SECRET, "k0": OLDER}]),
    signed=st.booleans(),
)


@steady
@given(reader=readers, headers=st.lists(st.tuples(names, values), max_size=6), now=clocks)
def test_any_headers_read_as_exactly_one_of_four_kinds_and_never_raise(
    reader: MarkReader, headers: list[tuple[str, bytes | None]], now: float
) -> None:
    reading = reader.read(headers, now)
    assert (reading.mark is not None) is (reading.kind in {Kind.SHADOW, Kind.EXPIRED})
    assert bool(reading.reason) is (reading.kind is Kind.QUARANTINE or reading is NEAR_MISS)
    assert reader.read(headers, now) == reading
    ours = [value for name, value in headers if name == "x-shadow"]
    assert (reading.kind is Kind.NORMAL) is (not ours)


many = st.lists(st.tuples(st.sampled_from(["trace", "x-shadow", "X-Shadow", "other-id"]), values), max_size=140)


@steady
@given(reader=readers, batch=st.lists(st.none() | st.lists(st.tuples(names, values), max_size=6) | many, max_size=5))
def test_a_look_at_many_messages_calls_them_unmarked_only_where_each_reads_as_plainly_normal(
    reader: MarkReader, batch: list[list[tuple[str, bytes | None]] | None]
) -> None:
    plain = all(reader.read(headers, NOW) is NORMAL for headers in batch)
    assert not reader.unmarked(batch) or plain
    # Never missed where it pays: messages without any name of the mark's length.
    lengths = {len(name) for headers in batch for name, _ in headers or ()}
    assert reader.unmarked(batch) or not plain or len(reader.name) in lengths


@steady
@given(reader=readers, headers=st.none() | st.lists(st.tuples(names, values), max_size=6) | many, now=clocks)
def test_a_message_has_a_mark_exactly_where_its_reading_is_one_for_the_shadow_lane_to_judge(
    reader: MarkReader, headers: list[tuple[str, bytes | None]] | None, now: float
) -> None:
    reading = reader.read(headers, now)
    shadows = reading.kind is not Kind.NORMAL and reading.reason != "too_many_headers"
    assert reader.marked(headers) is shadows
    assert shadows is (fate(Lane.SHADOW, shared=True, reading=reading) is not None or reading.kind is Kind.SHADOW)


@steady
@given(marks)
def test_every_mark_reads_back_as_it_was_written(mark: Mark) -> None:
    value = encode(mark)
    now = NOW if mark.expires_at is None else float(mark.expires_at)
    assert open_reader().read_value(value, now) == Reading(Kind.SHADOW, mark, "")


@steady
@given(mutated() | st.binary())
def test_what_is_believed_is_written_back_byte_for_byte(value: bytes) -> None:
    """One mark has one spelling, but for ``true`` and ``hop=0``."""
    mark = MarkReader(max_age_s=1e13).read_value(value, NOW).mark
    if mark is not None:
        assert encode(mark) == value.replace(b"true", b"1").replace(b";hop=0", b"")


@steady
@given(original=genuine(), data=st.data(), now=st.floats(NOW - 1000, NOW + 1000))
def test_a_changed_signed_mark_is_shadow_only_with_the_same_run_and_expiry(
    original: bytes, data: st.DataObject, now: float
) -> None:
    place = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = original[:place] + bytes([byte]) + original[place + 1 :]
    before, after = signed_reader().read_value(original, now).mark, signed_reader().read_value(changed, now)
    assert before is not None
    if after.kind is not Kind.QUARANTINE:
        assert after.mark is not None
        assert (after.mark.run, after.mark.expires_at) == (before.run, before.expires_at)


@steady
@given(value=mutated(), now=clocks)
def test_signed_trust_believes_no_mark_whose_signature_is_not_ours(value: bytes, now: float) -> None:
    reading = signed_reader().read_value(value, now)
    if reading.mark is not None:
        assert reading.mark.run is not None
        assert reading.mark.expires_at is not None
        secret = {"k1": SECRET, "k0": OLDER}[str(reading.mark.key_id)]
        assert reading.mark.signature == signature(secret, reading.mark.run, reading.mark.expires_at)


@steady
@given(mark=unsigned_marks | signed_marks, keys=st.sampled_from([[], [("k1", SECRET)]]))
def test_onward_adds_a_hop_and_keeps_run_expiry_and_signature(mark: Mark, keys: list[tuple[str, bytes]]) -> None:
    writer = MarkWriter(keys=keys)
    if mark.hop == MAX_HOP:
        with pytest.raises(MarkError):
            writer.onward(mark, NOW)
        return
    now = NOW if mark.expires_at is None else float(mark.expires_at)
    after = open_reader().read_value(writer.onward(mark, now), now).mark
    assert after is not None
    assert (after.run, after.hop) == (mark.run, mark.hop + 1)
    assert after.expires_at == (int(NOW + MAX_AGE_S) if mark.expires_at is None else mark.expires_at)
    if mark.signature is not None:
        assert (after.key_id, after.signature) == (mark.key_id, mark.signature)
    elif keys:
        assert signed_reader().read_value(encode(after), now).kind is Kind.SHADOW


def test_the_skew_is_borne_when_an_old_reading_is_looked_at_again() -> None:
    reader = MarkReader(skew_s=30.0)
    assert not reader.stale(Mark(run="a"), 1e12)
    assert [reader.stale(Mark(run="a", expires_at=1000), now) for now in (999.0, 1030.0, 1030.5)] == [
        False,
        False,
        True,
    ]


def test_as_many_headers_as_are_read_are_plainly_normal_too() -> None:
    reader = MarkReader()
    assert reader.unmarked([[("a", b"1")] * 128, None, []])
    assert not reader.unmarked([[("a", b"1")] * 129])


def test_a_reader_and_a_writer_go_by_each_rule() -> None:
    @dataclass
    class Rules:
        header: str = "own"
        signed: bool = True
        keyring: Keyring = field(default_factory=lambda: Keyring([("k1", b"s" * 32)]))
        max_age_s: float = 100.0
        skew_s: float = 7.0
        max_hops: int = 3

    rules = Rules()
    reader, writer = MarkReader.of(rules), MarkWriter.of(rules)
    value = writer.onward(Mark(run="a"), 1000.0)
    assert value.startswith(b"1;run=a;exp=1100;hop=1;kid=k1;sig=")
    assert (reader.name, writer.name) == ("own", "own")
    kinds = {now: reader.read([("own", value)], now).kind for now in (992.9, 993.0, 1107.0, 1107.1)}
    assert list(kinds.values()) == ["quarantine", "shadow", "shadow", "expired"]
    assert reader.read([("own", b"1;run=a")], 1000.0).reason == "unsigned"
    assert reader.read([("own", value.replace(b"hop=1", b"hop=4"))], 1000.0).reason == "too_many_hops"
    with pytest.raises(MarkError):
        writer.onward(Mark(run="a", hop=3), 1000.0)


def test_a_mark_is_looked_for_in_as_many_headers_as_are_read() -> None:
    reader = MarkReader()
    others = [("a", b"1")] * 127
    assert reader.marked([*others, ("x-shadow", b"1")])
    assert not reader.marked([*others, ("a", b"1"), ("x-shadow", b"1")])
    assert not reader.marked(None)


def test_once_the_keys_have_turned_everything_is_verified_anew() -> None:
    keyring = Keyring([("k1", SECRET)])
    reader = MarkReader(keys=keyring, signed=True)
    old = MarkWriter(keys=keyring).onward(Mark(run=RUN, expires_at=EXP), NOW)
    assert [reader.read_value(old, NOW).kind for _ in range(2)] == [Kind.SHADOW] * 2
    keyring.turn([("k2", OLDER)])
    assert [reader.read_value(old, NOW).reason for _ in range(2)] == ["unknown_key"] * 2
    new = MarkWriter(keys=keyring).onward(Mark(run=RUN, expires_at=EXP), NOW)
    assert [reader.read_value(new, NOW).kind for _ in range(2)] == [Kind.SHADOW] * 2
    assert len(reader._known) == 1
