"""The gRPC doors: the one message of a unary call, which may be long, or never come, and what then answers the call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from holon.errors import HolonError, InvalidArgument
from holon.wire.arrivals import Arrivals
from holon.wire.grpc_status import abort

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# How long a request may take, of a sender that is known and of one that is not.
KNOWN_S = 120.0
STRANGER_S = 10.0


@dataclass(frozen=True, slots=True)
class Coming:
    """What bounds the request of a call until it is there.

    Attributes:
        arrivals: where it takes a place.
        sender: whose it is; None: a stranger's.
    """

    arrivals: Arrivals
    sender: Hashable | None

    @property
    def seconds(self) -> float:
        """How long it may take."""
        return STRANGER_S if self.sender is None else KNOWN_S


async def serve(handler: Any, requests: AsyncIterable[Any], context: Context, coming: Coming) -> None:
    """Serve a call as its handler does, from one of streams, which sees the call before its request has come."""
    try:
        request = requests if handler.request_streaming else await _request(context, coming)
    except HolonError as error:
        await end(context, error)
    else:
        await _answer(handler, request, context)


async def _request(context: Context, coming: Coming) -> Any:
    """The request of a unary call; raises HolonError where none comes."""
    request = grpc.aio.EOF
    try:
        async with coming.arrivals.place(coming.sender, coming.seconds):
            request = await context.read()
    except (TimeoutError, grpc.aio.BaseError):
        pass
    if request is grpc.aio.EOF:
        raise InvalidArgument("the request did not arrive in time", code="MALFORMED_FRAME")
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
        await context.write(await answers)


async def end(context: Context, problem: HolonError) -> None:
    """End a call with this error; who made it may be gone."""
    try:
        await abort(context, problem)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        log.debug("a call ended before it could be refused: %s", problem.message)
