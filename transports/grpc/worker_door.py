"""The worker door: where workers open their sessions."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from holon.clock import Clock
from holon.engine.rates import RateLimits
from holon.engine.workers import Workers
from holon.errors import HolonError, Unavailable
from holon.security.access import TokenGate
from holon.security.tls_files import TlsFiles
from holon.telemetry.metrics import StreamMetrics
from holon.wire.grpc_status import abort, told
from transports.grpc.caller import identity_of
from transports.grpc.server import FAREWELL_S, Server
from transports.grpc.session import Context, Session
from transports.grpc.settings import WorkerDoorSettings
from transports.grpc.tokens import TokenCheck

log = logging.getLogger(__name__)

SERVICE = "holon.rxon.v1.WorkerService"
TOKEN_KEY = "x-worker-token"  # noqa: S105  a name, not a token
# A session, the one that replaces it, and a health check or two.
MAX_STREAMS = 8


class WorkerDoor:
    """Serves workers while it is entered; `port` is where it then listens.

    Arguments:
    tls: with it every worker must present a certificate, which says who it is.
    gate: without it every worker must present this gate's token, and says itself who it is.
    rates: counts the messages of each worker; None takes any number.
    """

    def __init__(
        self,
        workers: Workers,
        settings: WorkerDoorSettings,
        tls: TlsFiles | None,
        gate: TokenGate,
        clock: Clock,
        rates: RateLimits | None = None,
    ) -> None:
        self._workers = workers
        self._settings = settings
        self._secure = tls is not None
        self._clock = clock
        self._rates = rates
        self.metrics = StreamMetrics()
        self._sessions: set[Session] = set()
        self._none = asyncio.Event()
        self._none.set()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server = Server(
            "worker door",
            settings,
            [grpc.method_handlers_generic_handler(SERVICE, {"Session": handler})],
            [] if self._secure else [TokenCheck(gate, TOKEN_KEY)],
            tls,
            client_certificates=True,
            max_streams=MAX_STREAMS,
        )

    def __repr__(self) -> str:
        return f"WorkerDoor({self._server!r}, sessions={len(self._sessions)})"

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
        """End every session, after its last words, and close. What workers still hold, they resume elsewhere."""
        for session in list(self._sessions):
            session.end(Unavailable("this node has shut down", code="DRAINING", retry_after=1.0))
        await self._server.__aexit__(kind, error, trace)
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._none.wait()
        except TimeoutError:
            pass

    def drain(self) -> None:
        """Say in the health service that this door takes nothing new; `Workers.drain_all` moves the sessions."""
        self._server.drain()

    async def _serve(self, _: Any, context: Context) -> None:
        session: Session | None = None
        try:
            identity = identity_of(context, self._clock.now_ms()) if self._secure else None
            session = Session(context, self._workers, self._settings, self._clock, identity, self.metrics, self._rates)
            self._sessions.add(session)
            self._none.clear()
            await session.serve()
            return
        except Exception as error:  # noqa: BLE001  the outermost frame of a stream; it is logged
            problem = told(error, "a worker's session")
            if session is None or not session.opened:
                self.metrics.refused.add(problem.code)
        finally:
            if session is not None:
                self._sessions.discard(session)
            if not self._sessions:
                self._none.set()
        await _end(context, problem)


async def _end(context: Context, problem: HolonError) -> None:
    try:
        await abort(context, problem)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        log.debug("a stream was gone before it could be ended: %s", problem.message)
