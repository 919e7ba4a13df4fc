"""The library of functions that holds the store's operations in a server."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from holon.stores.redis_servers import Connection, ask


class Functions:
    """A library of functions; the server keeps it with its data.

    Arguments:
        library: its name.
        text: its source, in Lua.
    """

    def __init__(self, library: str, text: bytes) -> None:
        self.library = library
        self.text = text

    def __repr__(self) -> str:
        return f"Functions({self.library})"

    async def load(self, connection: Connection) -> None:
        """Load the library, unless the server has it.

        Raises:
            ResponseError: the server refuses it.
            RedisError, OSError: the connection is lost.
        """
        [known] = await ask(connection, ("FUNCTION", "LIST", "LIBRARYNAME", self.library))
        if isinstance(known, ResponseError):
            raise known
        if not known:
            [loaded] = await ask(connection, ("FUNCTION", "LOAD", self.text))
            if isinstance(loaded, ResponseError) and "already exists" not in str(loaded):
                raise loaded

    def call(self, operation: str) -> tuple[Any, ...]:
        """The first words of a command that calls an operation; the number of keys comes next."""
        return "FCALL", f"{self.library}_{operation}"


def is_unknown(reply: Any) -> bool:
    """Whether the server does not have the function, and so has not run it."""
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
