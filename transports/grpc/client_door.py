"""The client door: where clients create jobs and look at them, and operators at the node, by gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc.aio

from holon.engine.jobs import Jobs
from holon.engine.overview import Overview
from holon.engine.rates import RateLimits
from holon.engine.trees import Trees
from holon.engine.watching import Watching
from holon.security.clients import Clients
from holon.security.sts.exchange import Exchange
from holon.security.tls_files import TlsFiles
from holon.transports.grpc.clients import ClientCheck
from holon.transports.grpc.job_service import JobService
from holon.transports.grpc.node_service import NEEDS, NodeService
from holon.transports.grpc.rates import RateCheck
from holon.transports.grpc.server import Server
from holon.transports.grpc.settings import DoorSettings

MAX_STREAMS = 100


class ClientDoor:
    """Serves clients while it is entered; `port` is where it then listens.

    Arguments:
        tls: its certificate; clients present none.
        clients: who they are.
        interceptors: more that see each call, once its token was found good.
        rates: counts the calls of each client; None takes any number.
        exchange: who gives workers tokens; None: nobody does.
    """

    def __init__(
        self,
        jobs: Jobs,
        watching: Watching,
        trees: Trees,
        overview: Overview,
        settings: DoorSettings,
        tls: TlsFiles | None,
        clients: Clients,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        rates: RateLimits | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self._watching = watching
        self._service = JobService(jobs, watching, trees, clients, rates)
        limit = settings.max_message_bytes
        self._server = Server(
            "client port",
            ("CLIENT_GRPC_HOST", "CLIENT_GRPC_PORT"),
            settings,
            [self._service.handler(limit), NodeService(overview, exchange).handler(limit)],
            [ClientCheck(clients, NEEDS), *([RateCheck(rates)] if rates is not None else []), *interceptors],
            tls,
            client_certificates=False,
            max_streams=MAX_STREAMS,
        )

    def __repr__(self) -> str:
        return f"ClientDoor({self._server!r})"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: the address cannot be used, or is not loopback and there is no certificate.
        """
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let calls under way answer, send watchers elsewhere, and close."""
        self._service.draining = True
        self._watching.close()
        await self._server.__aexit__(kind, error, trace)

    def drain(self) -> None:
        """Take no new jobs, and say so in the health service; other calls are still answered."""
        self._service.draining = True
        self._server.drain()
