"""The worker door: where workers open their sessions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from holon.clock import Clock
from holon.engine.holarchy import Holarchy
from holon.engine.rates import RateLimits
from holon.engine.trees import Trees
from holon.engine.workers import Workers
from holon.errors import Unavailable
from holon.security.admission import Admission
from holon.security.refused import Refused
from holon.security.sts.exchange import Exchange
from holon.security.tls_files import TlsFiles
from holon.telemetry.metrics import StreamMetrics
from holon.transports.grpc.caller import CallerCheck, acting, caller
from holon.transports.grpc.frames import Context
from holon.transports.grpc.refused_links import RefusedLinks
from holon.transports.grpc.requests import end
from holon.transports.grpc.server import FAREWELL_S, Server
from holon.transports.grpc.session import Session
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.token_service import TokenService
from holon.wire.arrivals import Arrivals
from holon.wire.grpc_status import told

SERVICE = "holon.rxon.v1.WorkerService"
# More than are served at once: gRPC refuses what is beyond, and counts calls that have just ended.
MAX_STREAMS = 100


class WorkerDoor:
    """Serves workers while it is entered; `port`, and `token_port` if there is one, is where it then listens.

    gRPC cannot leave it to callers whether they show a certificate: where some do and others have tokens, the door has
    two ports.

    Arguments:
        tls: what it shows; None: both it and its callers speak plaintext, on loopback.
        admission: who says who is let in.
        holarchy: the place of this node's holon, for workers that are holons.
        trees: who asks those about their jobs, and keeps what they tell.
        rates: counts the messages of each worker; None takes any number.
        exchange: who gives tokens; None: nobody does.
    """

    def __init__(
        self,
        workers: Workers,
        settings: WorkerDoorSettings,
        tls: TlsFiles | None,
        admission: Admission,
        clock: Clock,
        holarchy: Holarchy,
        trees: Trees,
        rates: RateLimits | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self._workers = workers
        self._settings = settings
        self._admission = admission
        self._clock = clock
        self._rates = rates
        self._holarchy = holarchy
        self._trees = trees
        self.metrics = StreamMetrics()
        self._links = RefusedLinks(clock)
        self._refused = Refused(lambda _, code: self.metrics.refused.add(code))
        self._arrivals = Arrivals()
        self._sessions: set[Session] = set()
        self._none = asyncio.Event()
        self._none.set()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._serve)
        services = [grpc.method_handlers_generic_handler(SERVICE, {"Session": handler})]
        if exchange is not None:
            services.append(TokenService(exchange, self._refused).handler())

        def server(name: str, variable: str, port: int, *, certificates: bool) -> Server:
            return Server(
                name,
                ("GRPC_HOST", variable),
                replace(settings, port=port),
                services,
                [
                    CallerCheck(
                        admission,
                        self._refused,
                        self._arrivals,
                        certificates=certificates,
                        client_port=settings.client_port,
                    )
                ],
                tls,
                client_certificates=certificates,
                max_streams=MAX_STREAMS,
            )

        self._server = server("worker port", "GRPC_PORT", settings.port, certificates=settings.certificates)
        self._servers = [self._server]
        if settings.token_port is not None:
            tokens = server("worker port for tokens", "WORKER_TOKEN_PORT", settings.token_port, certificates=False)
            self._servers.append(tokens)
        admission.on_change(self._look_again)
        holarchy.on_change(self._chain_changed)

    def __repr__(self) -> str:
        return f"WorkerDoor({self._server!r}, sessions={len(self._sessions)})"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def token_port(self) -> int | None:
        """Where it listens for workers with tokens, if that is another port."""
        return self._servers[1].port if len(self._servers) > 1 else None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: an address cannot be used, or is not loopback and there is no certificate.
        """
        async with AsyncExitStack() as opened:
            for server in self._servers:
                await opened.enter_async_context(server)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every session, after its last words, and close. What workers still hold, they resume elsewhere."""
        for session in list(self._sessions):
            session.end(Unavailable("this node is shutting down", code="DRAINING", retry_after=1.0))
        await self._opened.aclose()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._none.wait()
        except TimeoutError:
            pass

    def drain(self) -> None:
        """Say in the health service that this door takes nothing new; `Workers.drain_all` moves the sessions."""
        for server in self._servers:
            server.drain()

    def _look_again(self, workers: frozenset[str] | None) -> None:
        for session in list(self._sessions):
            if workers is None or session.worker_id in workers:
                session.look_again()

    def _chain_changed(self) -> None:
        for session in list(self._sessions):
            session.chain_changed()

    async def _serve(self, _: Any, context: Context) -> None:
        session = Session(
            context,
            self._workers,
            self._settings,
            self._clock,
            caller(),
            self._arrivals,
            self._admission,
            self.metrics,
            self._rates,
            self._holarchy,
            self._trees,
        )
        try:
            self._sessions.add(session)
            self._none.clear()
            await session.serve()
            return
        except Exception as error:  # noqa: BLE001  the outermost frame of a stream; it is logged
            problem = told(error, "a worker's session")
            self._links.note(session.worker_id, problem)
            if session.opened:
                self._refused.session(problem, acting(session.worker_id))
            else:
                self._refused.call(problem, acting(), f"/{SERVICE}/Session")
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                self._none.set()
        await end(context, problem)
