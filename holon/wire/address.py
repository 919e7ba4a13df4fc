"""The wire: where a node is, as users write it: `grpcs://host:port`, or on the loopback `grpc://host:port`.

Or the path of a socket on this machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_CREDENTIALS = re.compile(r"\A(\w+://|).*@", re.DOTALL)
_OPTIONS = re.compile(r"([?#]).+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NodeUrl:
    """One address of a node."""

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        return f"{'grpcs' if self.secure else 'grpc'}://{self.target}"

    @property
    def target(self) -> str:
        """The address as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it cannot be another machine."""
        return self.host == "localhost" or (self.is_address and ipaddress.ip_address(self.host).is_loopback)

    @property
    def is_address(self) -> bool:
        """Whether it names its host by the one address that it has, and not by a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def parse_url(text: str, default_port: int) -> NodeUrl:
    """Read one address.

    Arguments:
        default_port: the port where it names none.
    Raises:
        ValueError: it is no such address, or plaintext to another machine; the text says so.
    """
    example = f"grpcs://host:{default_port}"
    try:
        parts = urlsplit(text.strip())
        port = parts.port or default_port
    except ValueError:
        # What the parser says may show a part of a password.
        raise ValueError(f"{shown_url(text)!r} is not the address of a node; write {example}") from None
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname:
        raise ValueError(f"{shown_url(text)!r} is not the address of a node; write {example}")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{shown_url(text)!r} has more parts than a host and a port; write {example}")
    url = NodeUrl(parts.hostname, port, parts.scheme == "grpcs")
    if not url.secure and not url.is_loopback:
        raise ValueError(f"{text!r} is not encrypted, which is only allowed to this machine; write grpcs://")
    return url


def shown_url(text: str) -> str:
    """What somebody took for an address, without what it may hold that is secret: user, password and options.

    The path of a socket has none of these.
    """
    if text.startswith("unix:"):
        return text
    return _OPTIONS.sub(r"\1(hidden)", _CREDENTIALS.sub(r"\1(hidden)@", text))


def socket_target(path: str) -> str:
    """The unix socket of this path, as gRPC takes it: in a plain one it reads what stands for a character in URLs."""
    return f"unix:{quote(os.fsencode(path))}"
