"""The gRPC doors: the token that a caller presents in its metadata, checked before anything of a call is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from holon.errors import HolonError, Unauthenticated
from holon.wire.grpc_status import abort

# Whoever looks after the process asks for its health, and has no token.
OPEN = "/grpc.health.v1.Health/"
_BEARER = "bearer "

Details = grpc.HandlerCallDetails
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


def presented(metadata: Iterable[tuple[str, str | bytes]], key: str) -> str | None:
    """The one token of a call's metadata, under this key or as `authorization: Bearer`; None when there is none.

    Raises:
        Unauthenticated: TOKEN_INVALID; there are several, or one in another form.
    """
    found: list[str] = []
    for name, value in metadata:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if name == key:
            found.append(text)
        elif name == "authorization":
            if not text.lower().startswith(_BEARER):
                raise _invalid("the authorization metadata does not have the form 'Bearer <token>'")
            found.append(text[len(_BEARER) :].strip())
    if len(found) > 1:
        raise _invalid(f"several tokens in one call; send {key} or authorization, once")
    return found[0] if found else None


def refusing(error: HolonError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler, for a call of any kind, that ends it with this error before its first message is read."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="TOKEN_INVALID")
