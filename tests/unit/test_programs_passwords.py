"""Passwords in the addresses that a program gives are shown nowhere, not even in a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest

from holon.client import Client
from holon.config.history_uri import HistoryURI
from holon.errors import ConfigError
from holon.stores.redis import RedisRows
from holon.wire.address import parse_url

STORES = (
    "redis://ann:{}@host:6379/0",
    "redis+sentinel://ann:{}@a:1,b:2/jobs/0",
    "redis+cluster://ann:{}@a:1,b:2",
    "unix://ann:{}@/run/redis.sock",
)


def told(make: Callable[[str], object], address: str) -> str:
    """All that a program prints that gives such an address and does not catch what it hears."""
    with pytest.raises((ConfigError, ValueError)) as refused:
        make(address)
    return "".join(line for line in traceback.format_exception(refused.value) if not line.startswith("  File"))


@pytest.mark.parametrize("password", ["s3c/r3t", "s3c#r3t", "s3c?r3t", "12/r3t", "s3c[r3t", "s3c\u2100r3t"])
def test_a_password_that_is_not_percent_encoded_is_refused_and_not_shown(password: str) -> None:
    for uri in STORES:
        said = told(RedisRows, uri.format(password))
        assert "percent-encoded" in said
        assert "s3c" not in said
        assert "r3t" not in said
    history = told(HistoryURI.parse, f"postgresql://ann:{password}@host/db")
    node = told(lambda url: parse_url(url, 7701), f"grpcs://ann:{password}@host:1")
    assert "s3c" not in history + node
    assert "r3t" not in history + node


async def test_a_client_shows_nothing_of_a_password_in_its_address() -> None:
    client = Client("grpcs://ann:s3cr3t@host")
    assert repr(client) == "Client(grpcs://(hidden)@host)"
    with pytest.raises(ConfigError, match="more parts than a host and a port") as refused:
        async with client:
            pass
    assert "s3cr3t" not in refused.value.message
