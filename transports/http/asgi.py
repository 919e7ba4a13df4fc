"""The HTTP door: the few types of ASGI that it speaks, and what a route answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, TypeAlias

import orjson

from holon.domain.value import Value

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Packing(Enum):
    """How an answer is compressed for a client that takes that."""

    EACH = "anew for each call"
    ONCE = "once, as it is the same for as long as the node runs"
    NEVER = "not at all, as it holds a secret of the node beside text of others"


class Reply(Value):
    """An answer: its body is JSON text unless said otherwise; `headers` come on top of those that every answer has.

    Who chooses text of an answer, and sees how long it is once compressed, can guess a secret beside it piece by piece.
    So an answer with a secret is never compressed.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"application/json"
    packing: Packing = Packing.EACH

    @classmethod
    def of(
        cls,
        status: int,
        value: Any,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        packing: Packing = Packing.EACH,
    ) -> Reply:
        """An answer with `value` as JSON."""
        return cls(status, orjson.dumps(value), headers, packing=packing)
