"""The domain: webhooks: which addresses may be told of a job's end, and when one that did not listen is told again."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from holon.domain.json_words import kind
from holon.domain.networks import Address, Network, is_public, meant
from holon.domain.value import Value
from holon.errors import InvalidArgument, Violation

FIELD = "webhook_url"
MAX_URL = 2_048
# From a failed try to the next, in milliseconds: as long again as the job is over, within these.
SHORTEST_WAIT = 1_000
LONGEST_WAIT = 3_600_000
_PORTS = {"http": 80, "https": 443}
# Two letters that are not of ASCII are its `k` and `s` in another case, but for the second flag.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:[/?][a-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)?)",
    re.IGNORECASE | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What some programs take for a number, and so for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Target(Value, gc=True):
    """Where a URL leads. `host` is in small letters and without brackets; `address` is set where it is one."""

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None = None

    @property
    def place(self) -> str:
        """The host and its port, as a header and a log name them: what a URL has beside may be secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class Receivers(Value, gc=True):
    """Which receivers the operator lets be told over plain HTTP, and at addresses that are not the public's.

    `hosts` are names in small letters; `networks` are those of addresses.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def reaches(self, host: str, address: Address) -> bool:
        """Whether a host may be told at this address, to which its name leads now."""
        real = meant(address)
        return host in self.hosts or self._lists(real) or is_public(real)

    def why_not(self, target: Target) -> str:
        """Why it cannot be told, as far as its URL says that; empty: it can be."""
        listed = target.host in self.hosts or (target.address is not None and self._lists(meant(target.address)))
        if target.scheme == "http" and not listed:
            return "is http, which anybody on the way can read; use https (WEBHOOK_ALLOWED_HOSTS lists exceptions)"
        if target.address is not None and not self.reaches(target.host, target.address):
            return "leads to an address that is not public (WEBHOOK_ALLOWED_HOSTS lists exceptions)"
        return ""

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def webhook_of(url: Any, receivers: Receivers) -> str:
    """The address that is to be told of a job's end, as a client gave it; None: nobody is, which is the empty text.

    Arguments:
        receivers: who may be told.
    Raises:
        InvalidArgument: it is none, or may not be told. The message shows nothing of it.
    """
    if url is None:
        return ""
    if reason := _why_not(url, receivers):
        raise InvalidArgument(f"{FIELD} {reason}", details=[Violation(FIELD, reason)])
    return str(url)


def _why_not(url: Any, receivers: Receivers) -> str:
    if not isinstance(url, str):
        return f"is {kind(url)}; give text, such as https://example.com/ended"
    try:
        return receivers.why_not(target_of(url))
    except ValueError as error:
        return str(error)


def target_of(url: str) -> Target:
    """Where a URL leads.

    Raises:
        ValueError: it is none that can be told; the message says why, and shows nothing of it.
    """
    if len(url) > MAX_URL:
        raise ValueError(f"has {len(url)} characters, over the limit of {MAX_URL}")
    if "#" in url:
        raise ValueError("has a fragment (#), which is never sent; leave it out")
    if "@" in url.partition("://")[2].partition("/")[0].partition("?")[0]:
        raise ValueError("has a user or a password before its host; leave them out, because webhooks are signed")
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            "is not a URL for a webhook; write https://host/path in ASCII, with special characters percent-encoded"
        )
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    if not 0 < port < 65_536:
        raise ValueError("has an invalid port")
    bare, address = _host(host)
    path = found["target"]
    return Target(scheme, bare, port, path if path.startswith("/") else f"/{path}", address)


def _host(host: str) -> tuple[str, Address | None]:
    try:
        if host.startswith("["):
            six = IPv6Address(host[1:-1])
            return str(six), six
        labels = host.split(".")
        if not _NUMBER.fullmatch(labels[-1]):
            if all(map(_LABEL.fullmatch, labels)):
                return host, None
            raise ValueError
        four = IPv4Address(host)
        return str(four), four
    except ValueError:
        raise ValueError("has a host that is not a name or an address") from None


def again_after(age: int, give_up: int, asked: int | None, chance: float, tried: int | None = None) -> int | None:
    """How many milliseconds after a failed try the next one is; None: that was the last.

    Arguments:
        age: how long the job is over.
        give_up: how long it may be over, and be told still; the last try is then.
        asked: after how long the receiver wants to be asked again, where it says so.
        chance: from 0 to 1, so that not all who failed together come again together.
        tried: for how long it is tried, where it had to wait for others before; None: as long as it is told of.
    """
    if age >= give_up:
        return None
    wait = min(max(age if tried is None else tried, SHORTEST_WAIT), LONGEST_WAIT) * (0.8 + 0.4 * chance)
    if asked is not None:
        wait = max(wait, min(asked, LONGEST_WAIT))
    return max(SHORTEST_WAIT, round(min(wait, give_up - age)))
