"""Which hosts shadow calls may go to."""

from __future__ import annotations

import pytest

import shadowstream as ss
from shadowstream.propagate.hosts import Hosts, split
from tests.signals import settings_of

LISTED = (
    *("ss-business", "taskv2:8080", "*.voucher.internal", "*.lab:9000", "[::1]:80", "10.0.0.7", "[fe80::1]"),
    *("xen", "box"),
)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        *[("ss-business", 80), ("SS-Business", None), ("ss-business.", 8443), ("taskv2", 8080)],
        *[("a.voucher.internal", 1), ("a.b.voucher.internal", None), ("x.lab", 9000)],
        *[("::1", 80), ("[::1]", 80), ("10.0.0.7", 5), ("fe80::1", 443), ("XEN", 1), ("BOX", 1)],
    ],
)
def test_a_listed_host_may_be_called(host: str, port: int | None) -> None:
    assert Hosts(LISTED).has(host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        *[("taskv2", 80), ("taskv2", None), ("voucher.internal", 80), ("evilvoucher.internal", 80), ("x.lab", 9001)],
        *[("ss-business.evil.example", 80), ("xss-business", 80), ("", 80), ("::1", 81), ("10.0.0.70", 5), ("*", 1)],
        *[("voucher.internal.evil.example", 80), ("ss-business@evil.example", 80)],
    ],
)
def test_no_other_host_may(host: str, port: int | None) -> None:
    assert not Hosts(LISTED).has(host, port)


def test_nothing_listed_lets_nothing_out() -> None:
    assert not Hosts([]).has("localhost", 80)


@pytest.mark.parametrize("host", ["http://ss-business", "ss-business/path", "*", "*voucher", "a b", "", "a..b", "-a"])
def test_what_is_no_host_is_said_with_the_cure(tmp_path, host: str) -> None:
    with pytest.raises(ss.ConfigError, match=r"propagate allow: .*(Write a host such as|Write a list)"):
        settings_of(tmp_path, propagate={"allow": [host]})


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        *[("a", "a", None), ("a:80", "a", 80), ("X:80", "X", 80), ("X", "X", None), ("a:b", "a:b", None)],
        *[("::1", "::1", None), ("[::1]", "::1", None), ("[::1]:80", "::1", 80), ("", "", None), ("a:", "a:", None)],
    ],
)
def test_a_place_is_taken_apart_into_its_host_and_its_port(place: str, host: str, port: int | None) -> None:
    assert split(place) == (host, port)
