"""The gRPC doors: the one message of a unary call, which may be long, or never come, and what then answers the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from holon.errors import HolonError, InvalidArgument
from holon.wire.grpc_status import abort

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# How long a request may take to come in, and how many of nobody's may be on their way at once: each takes up to a
# message. For one more, that is ended which has been on its way for longest.
_REQUEST_S = 10.0
_MOST_OF_NOBODY = 32


class Coming:
    """The requests of nobody that are on their way: so many, whatever the connections that they come by."""

    def __init__(self) -> None:
        self._scopes: dict[asyncio.Timeout, None] = {}

    def __repr__(self) -> str:
        return f"Coming({len(self._scopes)})"

    def add(self, scope: asyncio.Timeout) -> None:
        """One more."""
        if len(self._scopes) >= _MOST_OF_NOBODY:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            # One whose time has just run out is about to end.
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        self._scopes[scope] = None

    def remove(self, scope: asyncio.Timeout) -> None:
        """It has come, or will not."""
        self._scopes.pop(scope, None)


async def serve(handler: Any, requests: AsyncIterable[Any], context: Context, others: Coming | None) -> None:
    """Serve a call as its handler does, from one of streams, which sees the call before its request has come.

    Arguments:
        others: the requests of nobody, where this is one of them.
    """
    request = requests if handler.request_streaming else await _request(context, others)
    if request is grpc.aio.EOF:
        await end(context, InvalidArgument("no request came with the call in time", code="MALFORMED_FRAME"))
    else:
        await _answer(handler, request, context)


async def _request(context: Context, others: Coming | None) -> Any:
    """The request of a unary call; EOF where none comes."""
    request = grpc.aio.EOF
    scope = asyncio.timeout(_REQUEST_S)
    try:
        async with scope:
            if others is not None:
                others.add(scope)
            request = await context.read()
    except (TimeoutError, grpc.aio.BaseError):
        pass
    finally:
        if others is not None:
            others.remove(scope)
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


async def end(context: Context, problem: HolonError) -> None:
    """End a call with this error; who made it may be gone."""
    try:
        await abort(context, problem)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        log.debug("a call was gone before it could be refused: %s", problem.message)
