"""Where a job's end may be told, by the address alone; and after how long somebody is told again."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from holon.domain.webhook import LONGEST_WAIT, MAX_URL, SHORTEST_WAIT, Receivers, again_after, target_of, webhook_of
from holon.errors import InvalidArgument

LISTED = Receivers(frozenset({"hooks.internal", "localhost"}), (ip_network("10.0.0.0/8"), ip_network("::1/128")))
NOBODY = Receivers()
DAY = 86_400_000
HOUR = 3_600_000


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://example.com?x=1",
        "HTTPS://Example.COM:8443/a/b;c=1?token=a%20b&c[]=d@e",
        "https://xn--bcher-kva.example/ended",
        "https://my_service.example/",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]:8443/",
        "https://a1.b2.c3d/",
    ],
)
def test_https_to_a_name_or_a_public_address_is_taken_as_it_is(url: str) -> None:
    assert webhook_of(url, NOBODY) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (5, "is a number; give text"),
        (["https://example.com"], "is a list; give text"),
        ("", "is not a URL"),
        ("example.com", "is not a URL"),
        ("ftp://example.com/", "is not a URL"),
        ("file:///etc/passwd", "is not a URL"),
        ("https:///x", "is not a URL"),
        ("https://", "is not a URL"),
        (" https://example.com/", "is not a URL"),
        ("https://example.com/\r\nX: y", "is not a URL"),
        ("https://example.com/a b", "is not a URL"),
        ("https://example.com/ä", "is not a URL"),
        ("https://bücher.example/", "is not a URL"),
        ("http\u017f://example.com/", "is not a URL"),
        ("https://\u212aexample.com/", "is not a URL"),
        ("https://example.com/\u017f\u212a", "is not a URL"),
        ("https://example.com\\x", "is not a URL"),
        ("https://exam%70le.com/", "is not a URL"),
        ("https://example.com:/", "is not a URL"),
        ("https://example.com:0/", "has an invalid port"),
        ("https://example.com:65536/", "has an invalid port"),
        ("https://example.com/#x", "has a fragment"),
        ("https://me:secret@example.com/", "has a user or a password"),
        ("https://example.com\\@10.0.0.1/", "has a user or a password"),
        ("https://a..b/", "has a host that is not"),
        ("https://.example.com/", "has a host that is not"),
        ("https://example.com./", "has a host that is not"),
        ("https://-a.example/", "has a host that is not"),
        (f"https://{'a' * 64}.example/", "has a host that is not"),
        ("https://2130706433/", "has a host that is not"),
        ("https://127.1/", "has a host that is not"),
        ("https://0x7f.0.0.1/", "has a host that is not"),
        ("https://0x7f000001/", "has a host that is not"),
        ("https://127.0.0.0x1/", "has a host that is not"),
        ("https://0177.0.0.1/", "has a host that is not"),
        ("https://1.2.3.4.5/", "has a host that is not"),
        ("https://[::1/", "is not a URL"),
        ("https://[fe80::1%25eth0]/", "is not a URL"),
        ("https://[:::]/", "has a host that is not"),
        ("https://example.com/" + "x" * MAX_URL, "over the limit of 2048"),
        ("http://example.com/", "is http"),
        ("http://8.8.8.8/", "is http"),
        ("https://127.0.0.1/", "not public"),
        ("https://10.0.0.1/", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://0.0.0.0/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::ffff:127.0.0.1]/", "not public"),
        ("https://[64:ff9b::10.0.0.1]/", "not public"),
        ("https://[2002:7f00:1::]/", "not public"),
    ],
)
def test_what_cannot_be_told_is_refused_by_its_field_and_nothing_of_it_is_shown(url: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^webhook_url .*{why}") as error:
        webhook_of(url, NOBODY)
    assert [one.field for one in error.value.details] == ["webhook_url"]
    assert error.value.code == "INVALID_ARGUMENT"
    for secret in ("secret", "meta-data", "etc/passwd"):
        assert secret not in error.value.message


def test_none_is_nobody() -> None:
    assert webhook_of(None, NOBODY) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.internal/x",
        "http://HOOKS.internal:8080/",
        "http://10.1.2.3/",
        "https://10.1.2.3/",
        "http://[::1]/",
    ],
)
def test_whoever_the_operator_lists_may_be_told_without_tls(url: str) -> None:
    assert webhook_of(url, LISTED) == url
    with pytest.raises(InvalidArgument):
        webhook_of(url, NOBODY if url.startswith("http://") or "10." in url else LISTED)


def test_a_listed_name_is_reached_anywhere_and_a_listed_network_by_any_name() -> None:
    assert LISTED.reaches("hooks.internal", ip_address("192.168.1.1"))
    assert LISTED.reaches("other.example", ip_address("10.9.9.9"))
    assert LISTED.reaches("other.example", ip_address("::ffff:10.9.9.9"))
    assert LISTED.reaches("other.example", ip_address("8.8.8.8"))
    for closed in ("192.168.1.1", "127.0.0.1", "::ffff:127.0.0.1", "fe80::1"):
        assert not LISTED.reaches("other.example", ip_address(closed))
        assert not LISTED.reaches("not.hooks.internal", ip_address(closed))


def test_a_target_is_where_it_leads_and_its_place_shows_no_path() -> None:
    one = target_of("https://Example.com:8443/a;b=1?token=secret")
    assert (one.scheme, one.host, one.port, one.target) == ("https", "example.com", 8443, "/a;b=1?token=secret")
    assert one.place == "example.com:8443"
    assert target_of("https://example.com?x=1").target == "/?x=1"
    assert target_of("https://example.com:443/").place == "example.com"
    assert target_of("http://[::1]:80/").place == "[::1]"
    assert target_of("http://[0:0:0:0:0:0:0:1]:81/").place == "[::1]:81"


def test_who_failed_is_told_again_after_as_long_as_the_job_is_over_until_it_is_given_up() -> None:
    assert again_after(0, DAY, None, 0.5) == SHORTEST_WAIT
    assert again_after(10_000, DAY, None, 0.5) == 10_000
    assert (again_after(10_000, DAY, None, 0.0), again_after(10_000, DAY, None, 1.0)) == (8_000, 12_000)
    assert again_after(10 * HOUR, DAY, None, 0.5) == LONGEST_WAIT
    # The last try is when it is given up, and not an hour before.
    assert again_after(DAY - 5_000, DAY, None, 0.5) == 5_000
    assert again_after(DAY - 1, DAY, None, 0.5) == SHORTEST_WAIT
    assert again_after(DAY, DAY, None, 0.5) is None


def test_it_is_told_when_it_asks_for_that_but_no_sooner_than_else_and_within_an_hour() -> None:
    assert again_after(1_000, DAY, 30_000, 0.5) == 30_000
    assert again_after(10_000, DAY, 0, 0.5) == 10_000
    assert again_after(10_000, DAY, 10**12, 0.5) == LONGEST_WAIT


def test_a_day_of_failures_is_some_forty_tries() -> None:
    age = tries = 0
    while (wait := again_after(age, DAY, None, 0.5)) is not None:
        age += wait
        tries += 1
    assert 30 < tries < 50
