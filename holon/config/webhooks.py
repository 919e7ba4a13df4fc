"""WEBHOOK_SECRET and WEBHOOK_ALLOWED_HOSTS: what webhooks are signed with, and who may be told beside the public."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from holon.config.values import names_in, shown, without_credentials
from holon.errors import Violation

# As its public convention has it (Standard Webhooks); the prefix may be left out.
PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
MOST_SECRETS = 4
_NAME = re.compile(r"(?!.*\.[0-9]+\Z)[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")


class Settings(Protocol):
    """What is read of the settings."""

    ENABLE_CLIENT_API: bool
    WEBHOOK_SECRET: str
    WEBHOOK_ALLOWED_HOSTS: str


def webhook_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The secrets, each of which signs; none: the setting is unset.

    Raises:
        ValueError: one is none; the message never shows one.
    """
    secrets = tuple(map(_secret, names_in(settings.WEBHOOK_SECRET)))
    if settings.WEBHOOK_SECRET and not secrets:
        raise ValueError("has no secret; `holon keys new` makes one")
    if len(secrets) > MOST_SECRETS:
        raise ValueError(f"has {len(secrets)} secrets, over the limit of {MOST_SECRETS}; remove the oldest")
    return secrets


def webhook_hosts(settings: Settings) -> tuple[frozenset[str], tuple[IPv4Network | IPv6Network, ...]]:
    """The names, and the networks: an address is one of its own.

    Raises:
        ValueError: one is neither.
    """
    names: set[str] = set()
    networks: list[IPv4Network | IPv6Network] = []
    # Before it is split, for a password that somebody has written here may have a comma.
    for one in names_in(without_credentials(settings.WEBHOOK_ALLOWED_HOSTS)):
        try:
            networks.append(ip_network(one.strip("[]")))
        except ValueError:
            name = one.lower()
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{shown(one)!r} is not a name, address or network; write hooks.internal or 10.0.0.0/8, without "
                    "a port"
                ) from None
            names.add(name)
    return frozenset(names), tuple(networks)


def webhook_problems(settings: Settings) -> Iterator[Violation]:
    """Yield what is wrong with them."""
    for name, read in (("WEBHOOK_SECRET", webhook_secrets), ("WEBHOOK_ALLOWED_HOSTS", webhook_hosts)):
        try:
            read(settings)
        except ValueError as error:
            yield Violation(name, str(error))
    if settings.WEBHOOK_SECRET and not settings.ENABLE_CLIENT_API:
        yield Violation(
            "WEBHOOK_SECRET", "is for the jobs of clients, but with ENABLE_CLIENT_API=false there are none; unset it"
        )


def _secret(text: str) -> bytes:
    try:
        secret = b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) not in SECRET_BYTES or len(set(secret)) < len(secret) // 4:
        raise ValueError(
            f"is not a secret (base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} random bytes); `holon keys new` "
            "makes one"
        )
    return secret
