"""The HTTP door: the few types of ASGI that it speaks, and what a route answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import orjson

from holon.domain.value import Value

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Reply(Value):
    """An answer: its body is JSON text unless said otherwise; `headers` come on top of those that every answer has."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"application/json"

    @classmethod
    def of(cls, status: int, value: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
        """An answer with `value` as JSON."""
        return cls(status, orjson.dumps(value), headers)
