"""Which addresses are the public's: what leads into a network of somebody's own is none, however it is written."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from holon.domain.networks import is_public, meant

CLOSED = (
    "0.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
)
OPEN = (
    "1.1.1.1",
    "8.8.8.8",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "168.63.129.15",
    "168.63.129.17",
    "172.15.0.1",
    "172.32.0.1",
    "192.167.1.1",
)


@pytest.mark.parametrize("text", CLOSED)
def test_an_address_of_somebodys_own_is_not_public_and_in_ipv6_neither(text: str) -> None:
    assert not is_public(ip_address(text))
    number = int(IPv4Address(text))
    for six in (
        f"::ffff:{text}",
        f"64:ff9b::{text}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ):
        real = meant(ip_address(six))
        assert (six, str(real)) == (six, text)
        assert not is_public(real)
    # What nobody takes back to it is none either.
    assert not is_public(meant(ip_address(f"::{text}")))
    assert not is_public(meant(ip_address(f"64:ff9b:1::{text}")))


@pytest.mark.parametrize("text", OPEN)
def test_an_address_beside_those_is_public_and_in_ipv6_too(text: str) -> None:
    number = int(IPv4Address(text))
    for one in (text, f"::ffff:{text}", f"64:ff9b::{text}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"):
        assert is_public(meant(ip_address(one)))


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "ff0e::1",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "4000::1",
        "64:ff9b:1::1",
        "::ffff:0:127.0.0.1",
    ],
)
def test_an_address_of_ipv6_that_is_no_single_machine_of_the_public_is_none(text: str) -> None:
    assert not is_public(meant(ip_address(text)))


@pytest.mark.parametrize("text", ["2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2600::"])
def test_a_public_address_of_ipv6_is_one(text: str) -> None:
    assert is_public(meant(ip_address(text)))
