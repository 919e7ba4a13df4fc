"""The gRPC doors: calls from bytes to bytes, with every failure as one clear status."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from holon.errors import InvalidArgument, ResourceExhausted, Violation
from holon.transports.grpc.clients import serving, while_admitted
from holon.transports.grpc.trace import remember
from holon.wire.grpc_status import abort, told

log = logging.getLogger(__name__)

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
        serving(context)
        remember(context.invocation_metadata() or ())
        try:
            answer = await method(_parsed(name, kind, raw))
            return _bounded(name, answer.SerializeToString(), max_bytes)
        except Exception as error:  # noqa: BLE001  the outermost frame of a call; it is logged
            return await abort(context, told(error, name))

    return grpc.unary_unary_rpc_method_handler(call)


def streamed(
    name: str, kind: type[Request], method: Callable[[Request], AsyncGenerator[bytes, None]], max_bytes: int
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of a call that is answered by a stream, as for `unary`; its end with OK is that of the generator.

    When the client goes away, or does not read, the generator is closed, or waits; it is closed, too, when the token
    of the call is taken back.
    """

    async def call(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        try:
            async with while_admitted(), aclosing(method(_parsed(name, kind, raw))) as answers:
                async for answer in answers:
                    await context.write(_bounded(name, answer, max_bytes))
        except grpc.aio.BaseError:
            log.debug("a client of %s disconnected", name)
        except Exception as error:  # noqa: BLE001  the outermost frame of a call; it is logged
            await abort(context, told(error, name))

    return grpc.unary_stream_rpc_method_handler(call)


def refuse(asked: Mapping[str, bool]) -> None:
    """Nothing is taken and then ignored: refuse what is asked and not done yet, all of it at once.

    Raises:
        InvalidArgument: some of it is asked; the details name the fields.
    """
    wrong = [Violation(field, "is not supported by this version") for field, given in asked.items() if given]
    if wrong:
        names = ", ".join(violation.field for violation in wrong)
        raise InvalidArgument(f"not supported by this version; leave out {names}", details=wrong)


def invalid(field: str, reason: str) -> InvalidArgument:
    """The error of one field that has a value which it cannot have."""
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


def _parsed(name: str, kind: type[Request], raw: bytes) -> Request:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument(f"the request of {name} is not a {kind.__name__}", code="MALFORMED_FRAME") from error


def _bounded(name: str, text: bytes, max_bytes: int) -> bytes:
    if len(text) > max_bytes:
        raise ResourceExhausted(
            f"the answer of {name} has {len(text)} bytes, over the limit of {max_bytes}; request a smaller page or "
            "fewer fields",
            code="ANSWER_TOO_LARGE",
        )
    return text
