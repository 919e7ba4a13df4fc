"""The domain: which addresses of the network are the public's, and which lead into somebody's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# As the registries of special addresses have them (RFC 6890 and what came after it). Written out: what Python knows of
# them differs with its version.
_CLOSED_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; 0.0.0.0 is this machine
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # a provider's own, and its customers'
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's platform, which its machines alone reach
            "169.254.0.0/16",  # link-local: what clouds tell their machines
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # of protocols
            "192.0.2.0/24",  # of documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # of benchmarks
            "198.51.100.0/24",  # of documentation
            "203.0.113.0/24",  # of documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # of protocols, tunnels of Teredo among them
            "2001:db8::/32",  # of documentation
            "3fff::/20",  # of documentation
        ),
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")


def meant(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 stands for, as far as that is written in it; else the address itself."""
    if isinstance(address, IPv6Address):
        if address in _MAPPED or address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        if address in _6TO4:
            return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it is anybody's to reach, and not of this machine, of a network of its owner's, or of no single machine.

    What another address is meant by it is asked with `meant`, before this.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return address in _PUBLIC_6 and address not in _6TO4 and not any(address in network for network in _CLOSED_6)
