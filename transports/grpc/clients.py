"""The client door: who calls: a token is checked before anything of a call is read, and good for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from holon.domain.client import ADMIN, DEFAULT, OPERATOR, Client
from holon.errors import HolonError
from holon.security.clients import Clients, Credential, check_role
from holon.telemetry.audit import By
from holon.transports.grpc.requests import Coming, serve
from holon.transports.grpc.tokens import OPEN, Details, Handler, presented
from holon.transports.grpc.trace import trace_of_call
from holon.wire.arrivals import Arrivals
from holon.wire.grpc_status import abort

TOKEN_KEY = "x-client-token"  # noqa: S105  a name, not a token
_NO_TOKEN = f"no client token in the metadata; send `authorization: Bearer <token>`, or {TOKEN_KEY}"

# A call is served in a task of its own, so nothing has to take these back.
_credential: ContextVar[Credential | None] = ContextVar("credential of the call", default=None)
_by: ContextVar[By] = ContextVar("who makes the call")
_context: ContextVar[grpc.aio.ServicerContext[Any, Any] | None] = ContextVar("context of the call", default=None)


class ClientCheck(grpc.aio.ServerInterceptor):
    """Lets calls through whose client is known, and may make them.

    Arguments:
        needs: the role that a method needs, by its full name; what is not in it needs none.
    """

    def __init__(self, clients: Clients, needs: Mapping[str, str]) -> None:
        self._clients = clients
        self._needs = needs
        self._arrivals = Arrivals()

    def __repr__(self) -> str:
        return f"ClientCheck({self._clients!r})"

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Go on with the call, or put a handler in its place that refuses it without reading a byte of it."""
        method = handler_call_details.method
        if method.startswith(OPEN):
            return _read_here(await continuation(handler_call_details), Coming(self._arrivals, None))
        by = By("grpc")
        try:
            token = presented(handler_call_details.invocation_metadata or (), TOKEN_KEY)
            credential = self._clients.admit(token, _NO_TOKEN)
            by = By("grpc", credential.client.name)
            check_role(credential.client, self._needs.get(method, ""), method)
        except HolonError as error:
            return self._refusing(method, by, error)
        _credential.set(credential)
        _by.set(by)
        coming = Coming(self._arrivals, credential.client.name)
        return _read_here(await continuation(handler_call_details), coming)

    def _refusing(self, method: str, by: By, error: HolonError) -> grpc.RpcMethodHandler[Any, Any]:
        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._clients.refused.call(error, replace(by, peer=context.peer()), method)
            await abort(context, error)

        return grpc.stream_stream_rpc_method_handler(refuse)


def _read_here(handler: Handler, coming: Coming) -> Handler:
    """A handler of streams in the place of another one, so that its request is read within bounds."""
    if handler is None:
        return None

    async def served(requests: AsyncIterable[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await serve(handler, requests, context, coming)

    return grpc.stream_stream_rpc_method_handler(served, handler.request_deserializer, handler.response_serializer)


class OperatorCheck(grpc.aio.ServerInterceptor):
    """Lets every call through as the operator's, where nobody else can call.

    Arguments:
        owner: whose jobs the operator sees, as of the call.
        via: what the audit log calls the way in.
    """

    def __init__(self, owner: Callable[[], str], via: str) -> None:
        self._owner = owner
        self._by = By(via, OPERATOR)

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Go on with the call."""
        _credential.set(Credential(b"", Client(self._owner(), plan=DEFAULT, roles=frozenset({ADMIN}))))
        _by.set(self._by)
        return await continuation(handler_call_details)


def client() -> Client:
    """Who makes the call that is being served."""
    credential = _credential.get()
    assert credential is not None  # noqa: S101  no call of a client gets past `ClientCheck` without
    return credential.client


def digest() -> bytes:
    """Of the token that the call presents; empty where nobody presents any."""
    credential = _credential.get()
    return credential.digest if credential is not None else b""


def serving(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Note which call is being served here."""
    _context.set(context)


def acting() -> By:
    """Who makes the call that is being served, for the audit log."""
    context = _context.get()
    return replace(_by.get(), peer=context.peer() if context is not None else "", trace=trace_of_call())


@asynccontextmanager
async def while_admitted() -> AsyncGenerator[None, None]:
    """What is in this block goes on for as long as the token of the call is good; where there is none, to its end.

    Raises:
        Unauthenticated: (TOKEN_INVALID) the token was taken back meanwhile; the block was cancelled.
    """
    credential = _credential.get()
    if credential is None:
        yield
        return
    async with credential.while_good():
        yield
