"""The worker door: who calls, found out before anything of a call is read, and kept with the call."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio

from holon.errors import Unimplemented
from holon.security.admission import Admission, Caller
from holon.security.refused import Refused
from holon.telemetry.audit import By
from holon.transports.grpc.requests import Coming, Context, end, serve
from holon.transports.grpc.tokens import OPEN, Details, Handler, presented
from holon.wire.arrivals import Arrivals
from holon.wire.grpc_status import told

TOKEN_KEY = "x-worker-token"  # noqa: S105  a name, not a token

# How many calls of one connection are served at once: a session, the one that replaces it, and a health check or two.
MOST_CALLS = 8

_CALLER: ContextVar[Caller] = ContextVar("caller")
_PEER: ContextVar[str] = ContextVar("peer of the caller", default="")
NOBODY = Caller()
# What anybody may call where callers show tokens: to ask for health, and for a token to show.
_OPEN = (OPEN, "/holon.rxon.v1.TokenService/")
_OF_CLIENTS = ("/holon.rxon.v1.JobService/", "/holon.rxon.v1.NodeService/")
_JWT = re.compile(r"ey[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def called_by(caller: Caller, peer: str = "") -> None:
    """The call that is being answered is this caller's, and came from this address."""
    _CALLER.set(caller)
    _PEER.set(peer)


def caller() -> Caller:
    """Who makes the call that is being answered; nobody, where that was not asked."""
    return _CALLER.get()


def acting(worker_id: str = "") -> By:
    """Who makes the call that is being answered, for the audit log; what it has proven, where that names no worker."""
    return By("worker", worker_id or caller().name, _PEER.get())


class ConnectionCalls:
    """The calls of each connection: so many are served at once, and further ones wait.

    gRPC has a limit of its own, which refuses: it counts calls that have just ended, of which a client knows nothing.
    """

    def __init__(self) -> None:
        # Of each connection with calls: how many there are, and the room that they have.
        self._counts = Counter[str]()
        self._rooms: dict[str, asyncio.Semaphore] = {}

    def __repr__(self) -> str:
        return f"ConnectionCalls({self._counts.total()})"

    @asynccontextmanager
    async def one_of(self, peer: str) -> AsyncGenerator[None, None]:
        """Wait until a call of this connection may be served; it ends with this block."""
        self._counts[peer] += 1
        room = self._rooms.setdefault(peer, asyncio.Semaphore(MOST_CALLS))
        try:
            async with room:
                yield
        finally:
            self._counts[peer] -= 1
            if not self._counts[peer]:
                del self._counts[peer], self._rooms[peer]


class CallerCheck(grpc.aio.ServerInterceptor):
    """Lets calls of known callers through, of every service and kind.

    A caller is looked at at each call: TLS lets those go on whose certificate has ended, or was revoked, since they
    connected.

    Arguments:
        certificates: whether callers show certificates, or else tokens.
        client_port: as in `WorkerDoorSettings`.
        refused: hears of those who are refused.
        arrivals: where requests of callers take their places.
    """

    def __init__(
        self,
        admission: Admission,
        refused: Refused,
        arrivals: Arrivals,
        *,
        certificates: bool,
        client_port: int | None = None,
    ) -> None:
        where = f", which is {client_port} on this node" if client_port else ""
        self._wrong_port = Unimplemented(
            "this node serves no clients (ENABLE_CLIENT_API=false); it gets its jobs from its parent holon"
            if client_port is None
            else f"this port is for workers (GRPC_PORT); clients use CLIENT_GRPC_PORT{where}",
            code="WRONG_PORT",
        )
        self._admission = admission
        self._refused = refused
        self._certificates = certificates
        self._calls = ConnectionCalls()
        self._arrivals = arrivals
        # Who asks for health must not depend on who asks for tokens.
        self._asking_for_health = Arrivals()

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Put a handler before the call's own, which it hands over to: only there the connection can be asked."""
        method = handler_call_details.method
        if method.startswith(_OF_CLIENTS):
            # Hints about credentials do not help this caller.
            return grpc.stream_stream_rpc_method_handler(self._misdirected)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def checked(requests: AsyncIterable[Any], context: Context) -> None:
            peer = context.peer()
            async with self._calls.one_of(peer):
                try:
                    called_by(await self._caller(method, context), peer)
                except Exception as error:  # noqa: BLE001  the outermost frame of a call; it is logged
                    problem = told(error, method)
                    self._refused.call(problem, By("worker", peer=peer), method)
                    await end(context, problem)
                else:
                    arrivals = self._asking_for_health if method.startswith(OPEN) else self._arrivals
                    await serve(handler, requests, context, Coming(arrivals, caller().sender))

        # Of whatever kind the call is: a handler of its own kind would be called with its first message read.
        return grpc.stream_stream_rpc_method_handler(checked, handler.request_deserializer, handler.response_serializer)

    async def _misdirected(self, _: AsyncIterable[Any], context: Context) -> None:
        await end(context, self._wrong_port)

    async def _caller(self, method: str, context: Context) -> Caller:
        metadata = context.invocation_metadata() or ()
        if self._certificates:
            shown = context.auth_context()
            leaf, chain = (b"".join(shown.get(name, ())) for name in ("x509_pem_cert", "x509_pem_cert_chain"))
            caller = self._admission.by_certificate(leaf, chain)
            # The certificate says who it is; what is presented beside it must be bound to it.
            bearer = presented((one for one in metadata if one[0] == "authorization"), TOKEN_KEY)
            return caller if bearer is None else await self._admission.by_bearer(caller, bearer)
        if method.startswith(_OPEN):
            return NOBODY
        token = presented(metadata, TOKEN_KEY)
        if token is not None and _JWT.fullmatch(token):
            return await self._admission.by_bearer(NOBODY, token)
        return self._admission.by_token(token)
