"""The worker door: who calls, found out before anything of a call is read, and kept with the call."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from holon.errors import HolonError, InvalidArgument
from holon.security.admission import Admission, Caller
from holon.security.refused import Refused
from holon.telemetry.audit import By
from holon.wire.grpc_status import abort, told
from transports.grpc.tokens import OPEN, Details, Handler, presented

log = logging.getLogger(__name__)

TOKEN_KEY = "x-worker-token"  # noqa: S105  a name, not a token

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_CALLER: ContextVar[Caller] = ContextVar("caller")
_PEER: ContextVar[str] = ContextVar("peer of the caller", default="")
NOBODY = Caller()
# What anybody may call where callers show tokens: to ask for health, and for a token to show.
_OPEN = (OPEN, "/holon.rxon.v1.TokenService/")
_JWT = re.compile(r"ey[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# How long a request may take to come in, and how many of nobody's may be on their way at once: each takes up to a
# message. For one more, that is ended which has been on its way for longest.
_REQUEST_S = 10.0
_MOST_OF_NOBODY = 32


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


class CallerCheck(grpc.aio.ServerInterceptor):
    """Lets calls of known callers through, of every service and kind.

    A caller is looked at at each call: TLS lets those go on whose certificate has ended, or was revoked, since they
    connected.

    Arguments:
        certificates: whether callers show certificates, or else tokens.
        refused: hears of those who are refused.
    """

    def __init__(self, admission: Admission, refused: Refused, *, certificates: bool) -> None:
        self._admission = admission
        self._refused = refused
        self._certificates = certificates
        # By whether they ask for health, which must not depend on who asks for tokens.
        self._of_nobody: dict[bool, dict[asyncio.Timeout, None]] = {True: {}, False: {}}

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Put a handler before the call's own, which it hands over to: only there the connection can be asked."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method

        async def checked(requests: AsyncIterable[Any], context: Context) -> None:
            try:
                called_by(await self._caller(method, context), context.peer())
            except Exception as error:  # noqa: BLE001  the outermost frame of a call; it is logged
                problem = told(error, method)
                self._refused.call(problem, By("worker", peer=context.peer()), method)
                await _abort(context, problem)
            else:
                request = requests if handler.request_streaming else await self._request(method, context)
                await _answer(handler, request, context)

        # Of whatever kind the call is: a handler of its own kind would be called with its first message read.
        return grpc.stream_stream_rpc_method_handler(checked, handler.request_deserializer, handler.response_serializer)

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

    async def _request(self, method: str, context: Context) -> Any:
        """The one message of a unary call, which may be long, or never come."""
        request = grpc.aio.EOF
        others = self._of_nobody[method.startswith(OPEN)] if caller() is NOBODY else {}
        if len(others) >= _MOST_OF_NOBODY:
            oldest = next(iter(others))
            del others[oldest]
            # One whose time has just run out is about to end.
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        scope = asyncio.timeout(_REQUEST_S)
        try:
            async with scope:
                others[scope] = None
                request = await context.read()
        except (TimeoutError, grpc.aio.BaseError):
            pass
        finally:
            others.pop(scope, None)
        if request is grpc.aio.EOF:
            await _abort(context, InvalidArgument("no request came with the call in time", code="MALFORMED_FRAME"))
        return request


async def _answer(handler: Any, request: Any, context: Context) -> None:
    """Do what grpc does for a handler of this kind."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = cast("Callable[[Any, Context], Any]", getattr(handler, kind))
    answers = behaviour(request, context)
    if isinstance(answers, AsyncIterable):
        async for answer in answers:
            await context.write(answer)
    elif handler.response_streaming:
        await answers
    else:
        await _write(context, await answers)


async def _write(context: Context, answer: Any) -> None:
    try:
        await context.write(answer)
    except grpc.aio.BaseError:
        log.debug("a caller went away before it was answered")


async def _abort(context: Context, problem: HolonError) -> None:
    try:
        await abort(context, problem)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        log.debug("a call was gone before it could be refused: %s", problem.message)
