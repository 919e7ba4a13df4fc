"""The gRPC doors: unary calls, from bytes to bytes, with every failure as one clear status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from holon.errors import InvalidArgument, ResourceExhausted, Unimplemented
from holon.wire.grpc_status import abort, told
from transports.grpc.trace import remember

Request = TypeVar("Request", bound=Message)


def unary(
    name: str, kind: type[Request], method: Callable[[Request], Awaitable[Message]], max_bytes: int
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of a unary call. The request is parsed here, so that a malformed one is answered with a reason.

    Arguments:
        name: the method, for messages.
        kind: the request's class.
        method: what answers it; a HolonError that it raises ends the call with its status.
        max_bytes: the largest answer.
    """

    async def call(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        remember(context.invocation_metadata() or ())
        try:
            return _bounded(name, await method(_parsed(name, kind, raw)), max_bytes)
        except Exception as error:  # noqa: BLE001  the outermost frame of a call; it is logged
            return await abort(context, told(error, name))

    return grpc.unary_unary_rpc_method_handler(call)


def missing(name: str) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of a unary call that this version does not answer yet."""

    async def call(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> NoReturn:
        await abort(context, Unimplemented(f"this version of the node does not do {name}"))

    return grpc.unary_unary_rpc_method_handler(call)


def _parsed(name: str, kind: type[Request], raw: bytes) -> Request:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument(f"the request of {name} is no {kind.__name__}", code="MALFORMED_FRAME") from error


def _bounded(name: str, answer: Message, max_bytes: int) -> bytes:
    text = answer.SerializeToString()
    if len(text) > max_bytes:
        raise ResourceExhausted(
            f"the answer of {name} has {len(text)} bytes, over the limit of {max_bytes}; ask for a smaller page or "
            "fewer fields",
            code="ANSWER_TOO_LARGE",
        )
    return text
