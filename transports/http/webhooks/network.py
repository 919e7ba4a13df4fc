"""Webhooks: connections to receivers go to addresses that were looked at, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from holon.domain.networks import Address
from holon.domain.webhook import Receivers
from holon.transports.http.webhooks.names import Names, NameUnknown

# Of a receiver with many addresses so many are tried, each for so long.
MOST_TRIED = 4
CONNECT_S = 3.0


class Forbidden(Exception):
    """Expected: a name leads where nobody may be told; no connection was made."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to receivers by their names.

    The name is looked up here, once for each connection, and what is connected to is an address that was found then:
    a name that leads elsewhere a moment later changes nothing. TLS is still with the name.

    Arguments:
        receivers: who may be told, beside the public.
    """

    def __init__(self, receivers: Receivers, names: Names) -> None:
        self._receivers = receivers
        self._names = names
        self._real = httpcore.AnyIOBackend()

    def __repr__(self) -> str:
        return f"CheckedNetwork({self._names!r})"

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the whole try has one
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a receiver.

        Raises:
            Forbidden: one of its addresses is none that may be told: then none is.
            NameUnknown: it has none.
            httpcore.ConnectError, httpcore.ConnectTimeout: none of those that were tried took the connection.
        """
        try:
            found: list[Address] = [ip_address(host)]
        except ValueError:
            found = await self._names.addresses(host)
        if not found:
            raise NameUnknown("its host name has no address")
        if not all(self._receivers.reaches(host, address) for address in found):
            raise Forbidden(
                "its host name has an address that is not public, so nothing was sent; WEBHOOK_ALLOWED_HOSTS can "
                "allow it"
            )
        failed: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in found[:MOST_TRIED]:
            try:
                return await self._real.connect_tcp(str(address), port, CONNECT_S, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        assert failed is not None  # noqa: S101  there was one to try
        raise failed

    async def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        await self._real.sleep(seconds)
