"""A delivery of webhooks by itself, with names that lead where a test wants."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

from holon.domain.webhook import Receivers
from holon.transports.http.webhooks.delivery import HttpDelivery
from holon.transports.http.webhooks.names import Look, look_up
from holon.transports.http.webhooks.settings import DeliverySettings

SECRET = b"k" * 32
OLD_SECRET = b"o" * 24
LOOPBACK = Receivers(frozenset({"localhost"}), (ip_network("127.0.0.0/8"), ip_network("::1/128")))
NOBODY = Receivers()
GUARD = 30.0


def now() -> int:
    return time.time_ns() // 1_000_000


def leads(**addresses: list[str]) -> Look:
    """Names that have these addresses; dots are written as underscores."""

    def look(name: str) -> list[str]:
        if (found := addresses.get(name.replace(".", "_"))) is None:
            raise OSError(-2, "Name or service not known")
        return found

    return look


@asynccontextmanager
async def sending(
    receivers: Receivers = LOOPBACK,
    look: Look = look_up,
    timeout: float = GUARD,
    secrets: tuple[bytes, ...] = (SECRET,),
    clock: Callable[[], int] = now,
) -> AsyncIterator[HttpDelivery]:
    async with HttpDelivery(DeliverySettings(secrets, receivers, "9.9", timeout), clock, look) as delivery:
        yield delivery
