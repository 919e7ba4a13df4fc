"""The HTTP door: how many connections it has, and of each address no more than are left to the others."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any


class Place:
    """A connection's place among those of the door, until it leaves."""

    __slots__ = ("_address", "_limit")

    def __init__(self, limit: ConnectionLimit, address: str) -> None:
        self._limit: ConnectionLimit | None = limit
        self._address = address

    def leave(self) -> None:
        """Have another connection take it; again is fine."""
        if self._limit is not None:
            self._limit.left(self._address)
            self._limit = None


class ConnectionLimit:
    """Counts the connections of the door, handshakes among them, by the address that they come from.

    Arguments:
        most: how many there may be. One address alone can have half of them, and never all.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._of = Counter[str]()

    def __repr__(self) -> str:
        return f"ConnectionLimit({self._of.total()} of {self.most})"

    def take(self, peer: Any) -> Place | None:
        """A place for a connection from this address, as its socket has it; None: there is none."""
        address = _network_of(peer)
        if self._of[address] >= self.most - self._of.total():
            return None
        self._of[address] += 1
        return Place(self, address)

    def left(self, address: str) -> None:
        """A connection from here has gone."""
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]


def _network_of(peer: Any) -> str:
    """What tells one machine's connections from those of others: its address, or in IPv6 the network that it is in."""
    host = str(peer[0]) if peer else ""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    # Whoever has one address of such a network has them all.
    return str(ipaddress.IPv6Network((int(address), 64), strict=False).network_address)
